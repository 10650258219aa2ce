/* Compile what stands between BEGIN_TARGET("…") and END_TARGET for an instruction set of its own. */
#if defined(__clang__)
#define PRAGMA(text) _Pragma(#text)
#define BEGIN_TARGET(name) PRAGMA(clang attribute push(__attribute__((target(name))), apply_to = function))
#define END_TARGET _Pragma("clang attribute pop")
#else
#define PRAGMA(text) _Pragma(#text)
#define BEGIN_TARGET(name) _Pragma("GCC push_options") PRAGMA(GCC target(name))
#define END_TARGET _Pragma("GCC pop_options")
#endif
