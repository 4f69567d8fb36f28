"""``pictl audit``: the verbs, and exports that are verified without a control plane."""
