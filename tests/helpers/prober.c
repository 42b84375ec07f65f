/*
 * prober [--out FILE] exit|wait: a container's first process that tells which cgroups it woke up in.
 *
 * As its first act it reads the control files of its own groups and its CPU affinity, then prints one line of JSON to
 * stdout or appends it to FILE, then exits, or waits for SIGTERM:
 *
 *   {"pid":1,"affinity":"0-1","cgroup":{"cpu":"/a/b",...},"files":{"cpu.shares":"1024",...}}
 *
 * A file that is not there is null; another error is "errno N". Newlines inside a file become blanks. Paths are those
 * of /proc/self/cgroup; the files are read through whatever cgroup mount this mount namespace has for the controller.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_GROUPS 32

static char mounts[65536], groups[16384], out[32768];
static size_t used;

static void put(const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(out + used, sizeof(out) - used, format, args);
	va_end(args);
	if (n > 0 && (size_t)n < sizeof(out) - used)
		used += n;
}

/* A JSON string. Control files and group names hold no bytes above ASCII that matter here. */
static void put_string(const char *text)
{
	put("\"");
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			put("\\%c", *text);
		else
			put("%c", (unsigned char)*text < ' ' ? ' ' : *text);
	}
	put("\"");
}

/* Reads a whole small file, ends it with a NUL, cuts trailing newlines. Length, or -1 with errno. */
static ssize_t slurp(const char *path, char *buffer, size_t size)
{
	size_t have = 0;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	while (have < size - 1 && (n = read(fd, buffer + have, size - 1 - have)) > 0)
		have += n;
	close(fd);
	while (have && buffer[have - 1] == '\n')
		have--;
	buffer[have] = 0;
	return have;
}

/* Whether the comma-separated list holds the word. */
static int holds(const char *list, const char *word)
{
	size_t length = strlen(word);

	for (; list; list = strchr(list, ',') ? strchr(list, ',') + 1 : NULL)
		if (!strncmp(list, word, length) && (list[length] == ',' || !list[length]))
			return 1;
	return 0;
}

struct group { char *controllers, *path; };
static struct group group[MAX_GROUPS];
static int group_count;

/* /proc/self/cgroup: "4:cpu,cpuacct:/path", or "0::/path" for v2. */
static void read_groups(void)
{
	char *line, *end, *first, *second;

	if (slurp("/proc/self/cgroup", groups, sizeof(groups)) < 0)
		return;
	for (line = groups; line && *line && group_count < MAX_GROUPS; line = end) {
		end = strchr(line, '\n');
		if (end)
			*end++ = 0;
		first = strchr(line, ':');
		second = first ? strchr(first + 1, ':') : NULL;
		if (!second)
			continue;
		*second = 0;
		group[group_count].controllers = first + 1;
		group[group_count++].path = second + 1;
	}
}

/*
 * The folder of this process's group for a controller ("" is v2), from a mount that shows it.
 * mountinfo: "id parent major:minor root point options ... - type source superoptions".
 */
static int folder(const char *controller, char *result, size_t size)
{
	char line[4096], *begin = mounts, *end;
	const char *path = NULL;
	int i;

	for (i = 0; i < group_count; i++)
		if (*controller ? holds(group[i].controllers, controller) : !*group[i].controllers)
			path = group[i].path;
	if (!path)
		return 0;
	for (; begin && *begin; begin = end ? end + 1 : NULL) {
		char root[1024], point[1024], type[64], options[1024], *dash;
		size_t length;

		end = strchr(begin, '\n');
		length = end ? (size_t)(end - begin) : strlen(begin);
		if (length >= sizeof(line))
			continue;
		memcpy(line, begin, length);
		line[length] = 0;
		dash = strstr(line, " - ");
		if (!dash || sscanf(line, "%*s %*s %*s %1023s %1023s", root, point) != 2 ||
		    sscanf(dash, " - %63s %*s %1023s", type, options) != 2)
			continue;
		if (*controller ? strcmp(type, "cgroup") || !holds(options, controller) : strcmp(type, "cgroup2"))
			continue;
		length = strcmp(root, "/") ? strlen(root) : 0;
		if (strncmp(path, root, length) || (path[length] && path[length] != '/') || strstr(path, "/.."))
			continue;
		snprintf(result, size, "%s%s", point, path + length);
		return 1;
	}
	return 0;
}

static int first_file = 1;

static void report(const char *controller, const char *name)
{
	char where[4096], path[4400], value[8192];

	put("%s\"%s\":", first_file ? "" : ",", name);
	first_file = 0;
	if (!folder(controller, where, sizeof(where))) {
		put("null");
		return;
	}
	snprintf(path, sizeof(path), "%s/%s", where, name);
	if (slurp(path, value, sizeof(value)) >= 0)
		put_string(value);
	else if (errno == ENOENT)
		put("null");
	else
		put("\"errno %d\"", errno);
}

/* The affinity as a CPU list: "0-1,4". */
static void put_affinity(void)
{
	static unsigned char mask[1024];
	int bits = sizeof(mask) * 8, cpu, from, comma = 0;

	put("\"affinity\":\"");
	if (sched_getaffinity(0, sizeof(mask), (cpu_set_t *)mask) == 0) {
		for (cpu = 0; cpu < bits; cpu++) {
			if (!(mask[cpu / 8] >> cpu % 8 & 1))
				continue;
			for (from = cpu; cpu + 1 < bits && mask[(cpu + 1) / 8] >> (cpu + 1) % 8 & 1;)
				cpu++;
			put(from == cpu ? "%s%d" : "%s%d-%d", comma++ ? "," : "", from, cpu);
		}
	}
	put("\"");
}

static void stop(int signal) { (void)signal; }

int main(int argc, char **argv)
{
	static const char *const v1[][2] = {
		{"cpu", "cpu.shares"},         {"cpu", "cpu.cfs_quota_us"},   {"cpu", "cpu.cfs_period_us"},
		{"cpu", "cpu.cfs_burst_us"},   {"cpu", "cpu.idle"},           {"cpu", "cpu.bvt_warp_ns"},
		{"cpu", "cpu.qos_level"},      {"cpuset", "cpuset.cpus"},     {"cpuset", "cpuset.mems"},
		{"memory", "memory.limit_in_bytes"},
	};
	static const char *const v2[][2] = {
		{"", "cpu.weight"},      {"", "cpu.max"},     {"", "cpu.max.burst"},
		{"", "cpu.idle"},        {"", "cpu.bvt_warp_ns"}, {"", "cpuset.cpus"},
		{"", "cpuset.cpus.effective"}, {"", "memory.max"},
	};
	const char *file = NULL, *mode;
	struct sigaction action = {.sa_handler = stop};
	sigset_t term, before;
	int i, fd = 1, has_v1_cpu = 0;

	slurp("/proc/self/mountinfo", mounts, sizeof(mounts));
	read_groups();
	put("{\"pid\":%d,", (int)getpid());
	put_affinity();
	put(",\"cgroup\":{");
	for (i = 0; i < group_count; i++) {
		put(i ? "," : "");
		put_string(group[i].controllers);
		put(":");
		put_string(group[i].path);
		has_v1_cpu |= holds(group[i].controllers, "cpu");
	}
	put("},\"files\":{");
	if (has_v1_cpu)
		for (i = 0; i < (int)(sizeof(v1) / sizeof(*v1)); i++)
			report(v1[i][0], v1[i][1]);
	else
		for (i = 0; i < (int)(sizeof(v2) / sizeof(*v2)); i++)
			report(v2[i][0], v2[i][1]);
	put("}}\n");

	for (argv++; --argc > 1 && !strcmp(*argv, "--out"); argv += 2, argc--)
		file = argv[1];
	mode = argc > 0 ? *argv : "exit";
	if (file && (fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) < 0)
		return 3;

	/* Blocked before the line is out: whoever has read it may send SIGTERM at once. */
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, &before);
	sigaction(SIGTERM, &action, NULL);
	if (write(fd, out, used) != (ssize_t)used)
		return 4;
	if (!strcmp(mode, "wait"))
		sigsuspend(&before);
	return strcmp(mode, "wait") && strcmp(mode, "exit") ? 2 : 0;
}
