"""The audit trail: what is recorded, in which form, and how it becomes durable.

Errors: AuditError (the trail cannot be opened, or an event could not be made durable).
"""
