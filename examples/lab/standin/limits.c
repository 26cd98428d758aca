/*
 * Stand-in for CAP_SYS_RESOURCE. The kernel lets root read the limits of a process that isn't root only with this
 * capability, and CRIU reads them with prlimit64, which it calls through syscall(2). The same figures stand in
 * /proc/PID/limits, which needs no capability. Setting another process's limits is refused as before.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>

/* The columns of /proc/PID/limits. */
enum { SOFT = 26, HARD = 47, END = 68 };

static rlim64_t figure(const char *column)
{
	return strncmp(column, "unlimited", 9) == 0 ? RLIM64_INFINITY : strtoull(column, NULL, 10);
}

/* Below the heading, there is a line for each resource, in the order of their numbers. */
static int limits_from_proc(pid_t pid, unsigned resource, struct rlimit64 *limit)
{
	char path[32], line[128];
	unsigned n = 0;
	int found = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/limits", pid);
	f = fopen(path, "re");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (n++ != resource + 1)
			continue;
		if (strlen(line) < END)
			break;
		limit->rlim_cur = figure(line + SOFT);
		limit->rlim_max = figure(line + HARD);
		found = 0;
		break;
	}
	fclose(f);
	if (found < 0)
		errno = EPERM;
	return found;
}

/* On x86-64 the arguments of a variadic function that takes integers lie where those of this one do. */
long syscall(long number, long a, long b, long c, long d, long e, long f)
{
	static long (*libc)(long, ...);
	long result;

	if (!libc)
		libc = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	result = libc(number, a, b, c, d, e, f);
	if (number != SYS_prlimit64 || result == 0 || errno != EPERM || c || !d)
		return result;
	return limits_from_proc((pid_t)a, (unsigned)b, (struct rlimit64 *)d);
}
