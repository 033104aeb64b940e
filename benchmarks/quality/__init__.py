"""What mixtures, pruning, distillation and routers score on held-out views."""
