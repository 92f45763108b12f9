"""What must hold besides roles, and why a call is allowed or denied: policies and decisions of a sidecar.

    policy_engine = PolicyEngine()  # where the sidecar is says the environment, see `langtrain.channel`
    policy_engine.add_policy("cleared", condition="user.clearance_level >= dataset.classification_level")

Every method is of `langtrain.policies`, where its arguments are explained.
"""

from __future__ import annotations

from langtrain import policies
from langtrain.client import AsyncClient, Client, awaited, blocking
from langtrain.policies import policy, question

__all__ = ["AsyncPolicyEngine", "PolicyEngine", "policy", "question"]


class PolicyEngine(Client):
    """Policies and decisions."""

    add_policy = blocking(policies.add_policy)
    update_policy = blocking(policies.update_policy)
    delete_policy = blocking(policies.delete_policy)
    get_policy = blocking(policies.get_policy)
    list_policies = blocking(policies.list_policies)
    list_policy_versions = blocking(policies.list_policy_versions)
    check = blocking(policies.check)
    check_many = blocking(policies.check_many)
    explain = blocking(policies.explain)
    simulate = blocking(policies.simulate)
    list_access = blocking(policies.list_access)


class AsyncPolicyEngine(AsyncClient):
    """Policies and decisions."""

    add_policy = awaited(policies.add_policy)
    update_policy = awaited(policies.update_policy)
    delete_policy = awaited(policies.delete_policy)
    get_policy = awaited(policies.get_policy)
    list_policies = awaited(policies.list_policies)
    list_policy_versions = awaited(policies.list_policy_versions)
    check = awaited(policies.check)
    check_many = awaited(policies.check_many)
    explain = awaited(policies.explain)
    simulate = awaited(policies.simulate)
    list_access = awaited(policies.list_access)
