/*
 * spawn STDIN-FILE PROGRAM [ARG...]: runs PROGRAM once and prints "WALL_US CPU_US MAXRSS_KIB STATUS".
 *
 * A program of its own, because the kernel counts the memory of the process that forks towards the child's maximum:
 * this one is small enough not to hide a hook's. CPU time is user + system from fork to exit, exec included.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long micros(struct timeval t) { return t.tv_sec * 1000000LL + t.tv_usec; }

int main(int argc, char **argv)
{
	struct timespec before, after;
	struct rusage used;
	int status, input;
	pid_t pid;

	if (argc < 3 || (input = open(argv[1], O_RDONLY)) < 0)
		return 2;
	clock_gettime(CLOCK_MONOTONIC, &before);
	pid = fork();
	if (pid < 0)
		return 2;
	if (pid == 0) {
		dup2(input, 0);
		execv(argv[2], argv + 2);
		_exit(127);
	}
	if (wait4(pid, &status, 0, &used) != pid)
		return 2;
	clock_gettime(CLOCK_MONOTONIC, &after);
	printf("%lld %lld %ld %d\n",
	       (after.tv_sec - before.tv_sec) * 1000000LL + (after.tv_nsec - before.tv_nsec) / 1000,
	       micros(used.ru_utime) + micros(used.ru_stime), used.ru_maxrss,
	       WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	return 0;
}
