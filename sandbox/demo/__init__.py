"""`certfleet demo`: a drifted fleet, brought into sync by one command after the other."""
