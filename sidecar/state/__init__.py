"""What the sidecar knows and must not lose: one store for every domain, in SQLite or PostgreSQL.

SidecarError
├── StateError               UNAVAILABLE          state cannot be read or written now
│   ├── HeldError            UNAVAILABLE          another process has the database for itself
│   ├── LostError            UNAVAILABLE          the connection, or the whole transaction, is gone
│   ├── StateTimeoutError    UNAVAILABLE          not in time; nothing of it was written
│   ├── OutcomeUnknownError  UNAVAILABLE          it may have been written, or not
│   ├── StatementError       INTERNAL             SQL that the database refuses
│   └── SchemaError          FAILED_PRECONDITION  a database of another version, or changed migrations
├── UnrecordedError          UNAVAILABLE          a change is committed, and its event will be recorded later
├── ConflictError            ABORTED              a constraint of the schema forbids it
├── GapError                 OUT_OF_RANGE         changes that are not kept, or not there yet
└── IdempotencyError         INVALID_ARGUMENT     a key that was used for another request
"""
