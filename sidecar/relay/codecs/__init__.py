"""What the messages of known protocols say: the shape of each method, and the models that a message names.

wire        protobuf without a schema, strictly
fields      one message as a list of fields, for links that look inside
names       ways in which a message names models
tables      the methods of each known service, as data
registry    path → shape and codec

Errors: interceptors.contract.CodecError (a message that cannot be read or written).
"""
