"""Training: batch policies, losses and the stages that a method is made of. The only room that knows Lightning."""
