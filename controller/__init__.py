"""certfleet's reconcile loop: what git says × what AWS says → drift → plan → jobs → report."""
