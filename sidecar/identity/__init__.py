"""Who calls: tokens and keys that callers present, and what is known of those who present them.

SidecarError
└── TokenError       UNAUTHENTICATED   a token that proves nothing; its `reason` is stable
"""
