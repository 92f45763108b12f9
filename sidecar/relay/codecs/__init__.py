"""What the messages of known protocols say: the shape of each method, the models and the batch size of a message.

wire        protobuf without a schema, strictly
fields      one message as a list of fields, for links that look inside
names       ways in which a message names models
batches     ways in which a request says its batch size
tables      the methods of each known service, as data
registry    path → shape and codec

Errors: interceptors.contract.CodecError (a message that cannot be read or written).
"""
