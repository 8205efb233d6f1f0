"""The paper: curvature, Fisher information, unlearning, influence, its store, regions."""
