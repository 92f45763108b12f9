"""What the services process knows and relay workers decide by: told at once, in order, and heard of all the time.

said        what both ends say, as frames
publisher   the services process's end: everything that is so, and each change of it
follower    a worker's end: what is so, how long ago it heard, and questions

An entry is a plain value under a topic and a key. Who has just come is told all entries, then each change; both, and
the beats in between, are numbered. Whoever has not heard for a while knows that what he has may no longer be so.
"""
