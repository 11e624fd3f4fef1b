"""The reconcile loop as a Lambda runs it: desired state from a bundle, inventory and records in S3, a time budget.

The core, the plan and the job ids are those of the command line, so CI and the Lambda may both run.
"""
