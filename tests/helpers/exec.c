/* The wrapper that does nothing: what any program between an engine and runc costs at the least. */
#include <unistd.h>

int main(int argc, char **argv, char **env)
{
	(void)argc;
	execve("/usr/sbin/runc", argv, env);
	execve("/usr/bin/runc", argv, env);
	return 127;
}
