"""The sidecar's processes: a supervisor and its children, and the channel between them.

The supervisor owns what must outlive a child (listening sockets, the run directory, the per-boot key), has the nursery
fork children, and replaces those that end, hang or grow. What a child does is its role's module, named in `roles`.

Errors: ChannelError (a peer broke the rules of the control channel, or does not read it).
"""
