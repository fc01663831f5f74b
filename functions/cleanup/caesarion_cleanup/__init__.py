"""The cleanup function: idle sandboxes are suspended, suspended ones are removed later."""
