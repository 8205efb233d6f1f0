"""The paper: curvature, Fisher information, unlearning, second-order influence, its store, regions."""
