"""Layouts: sizes checked, ranks placed on GPUs, groups that communicate."""
