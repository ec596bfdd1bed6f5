"""Pure maths of the methods: tensors in, tensors out."""
