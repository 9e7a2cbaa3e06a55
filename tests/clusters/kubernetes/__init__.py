"""Kubernetes of the tests' own: its real API server, and a small kubelet that carries pods out as processes."""
