# Makes this folder findable inside the installed package; there is no code here.
