"""Kubernetes manifests (kustomize), and what of them is written by a program."""
