"""Model serving: predictors (framework code), adapters (thin hosts), catalogue (model packages), training."""
