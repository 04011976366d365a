"""The engine room: jobs come in, lanes execute them on the cores, one thread delivers what came out."""
