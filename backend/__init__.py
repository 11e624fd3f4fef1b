"""The cloud side of a rotation: CDK application and Lambda handlers."""
