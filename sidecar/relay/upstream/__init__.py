"""The model server's side: its endpoints, their connections, and which of them a call goes to.

`pool` is what calls ask. It has an `endpoint` for each address that `resolve` finds, each with its connections (`wire`,
made by `dial`) and what is known of its health (`health`, `eject`); `balance` picks a connection, `budget` bounds what
is tried again. `balance`, `eject`, `budget` and `health`'s reading of answers are pure; times come in as arguments.
"""
