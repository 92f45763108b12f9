"""Who may do what: roles and their grants, policies and their conditions, and why a decision is what it is.

SidecarError
└── PolicyError      INVALID_ARGUMENT   roles, groups, grants or policies that say nothing which can be checked
"""
