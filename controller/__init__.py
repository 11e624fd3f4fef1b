"""certfleet's reconcile loop: what git demands × what AWS reports → drift → plan → jobs → report."""
