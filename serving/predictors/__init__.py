"""Framework-level code per model family: `load` a package, `predict` arrays. No HTTP, no KServe, no Ray."""
