"""Who may do what: roles and their grants, policies and their conditions, and why a decision is what it is.

SidecarError
├── PolicyError              INVALID_ARGUMENT     what says nothing that can be checked
├── asked.NotFoundError      NOT_FOUND            nothing of that name in this tenant
├── asked.ExistsError        ALREADY_EXISTS       its name is taken
├── asked.VersionError       ABORTED              it has changed since the caller saw it
├── asked.UnchangeableError  FAILED_PRECONDITION  the config has it, or every tenant does
├── asked.TooManyError       RESOURCE_EXHAUSTED   the tenant has as many as it may
├── service.PoliciesOffError FAILED_PRECONDITION  policies are not turned on
└── RequestError
    └── asked.EscalationError  PERMISSION_DENIED  whoever asks does not have what he would give
"""
