"""The Lambda handlers of a rotation.

Each handler parses (validated models of event and environment), decides (pure functions) and acts
(one class per service it talks to). Besides the registry, they share one DynamoDB table
that no device can write; the named shadow is a public view, and nothing is decided from it.
"""
