from .process import guard_imports

guard_imports()
