// SPDX-License-Identifier: GPL-2.0-only
/*
 * The CPU identity interfaces of vendor kernels, as control files of the running kernel's own cpu controller.
 *
 * For tests: a program that writes these files meets the vendor's names, ranges, errnos, inheritance and switch on a
 * real cgroup file system. It is the interface and nothing more: no scheduling follows from any value, but for cpu.idle
 * where a vendor's file drives it.
 *
 *   kind=1  Group Identity (ANCK 4.19, 5.10): cpu.bvt_warp_ns, cpu.identity
 *   kind=2  Group Identity 2.0 (ANCK 6.6): cpu.priority, cpu.identity
 *   kind=3  openEuler: cpu.qos_level, on cgroup v1 alone
 *
 *   enabled=0|1   kernel.sched_group_identity_enabled is there and says this; -1: there is no such switch
 *   off_errno=N   what a write of kind 1 says while the switch is off; 0: it is taken
 *
 * What the vendors do not publish was chosen here: off_errno, and that on cgroup v2 the root group has no such files.
 */
#include <linux/cgroup.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/sysctl.h>
#include <linux/xarray.h>

static int kind = 1;
module_param(kind, int, 0444);
static int enabled = -1;
module_param(enabled, int, 0444);
static int off_errno = EPERM;
module_param(off_errno, int, 0444);

/* The bits of the first generation's cpu.identity. */
#define UNDERCLASS	0x01
#define HIGHCLASS	0x02
#define SMT_EXPELLER	0x04
#define IDLE_SAVER	0x08
#define IDLE_SEEKER	0x10
#define ALL_FLAGS	0xff

struct identity {
	s64 bvt;
	s64 flags;
	s64 priority;
	s64 expel;
	s64 qos_level;
};

/* By the serial number of the group's state; who is not in it has all zeros. */
static DEFINE_XARRAY(identities);
static DEFINE_MUTEX(lock);

static struct cgroup_subsys *cpu;
static int (*set_idle)(struct cgroup_subsys_state *group, long idle);
static int (*idle_write)(struct cgroup_subsys_state *css, struct cftype *cft, s64 idle);
static int (*next_online)(struct cgroup_subsys_state *css);
static void (*next_free)(struct cgroup_subsys_state *css);

static struct identity *find(struct cgroup_subsys_state *css)
{
	return xa_load(&identities, css->serial_nr);
}

/* The group's identity to be changed; made where there is none. */
static struct identity *own(struct cgroup_subsys_state *css)
{
	struct identity *identity = find(css);

	if (identity)
		return identity;
	identity = kzalloc(sizeof(*identity), GFP_KERNEL);
	if (identity && xa_err(xa_store(&identities, css->serial_nr, identity, GFP_KERNEL))) {
		kfree(identity);
		return NULL;
	}
	return identity;
}

/* At mkdir a group gets what its parent has then; later changes of the parent do not reach it. */
static int online(struct cgroup_subsys_state *css)
{
	struct identity *parent, *identity;
	int error = next_online ? next_online(css) : 0;

	if (error)
		return error;
	mutex_lock(&lock);
	parent = css->parent ? find(css->parent) : NULL;
	if (parent) {
		identity = own(css);
		if (identity)
			*identity = *parent;
	}
	mutex_unlock(&lock);
	return 0;
}

static void free_group(struct cgroup_subsys_state *css)
{
	kfree(xa_erase(&identities, css->serial_nr));
	next_free(css);
}

#define READER(field)									\
static s64 read_##field(struct cgroup_subsys_state *css, struct cftype *cft)		\
{											\
	struct identity *identity;							\
	s64 value;									\
											\
	mutex_lock(&lock);								\
	identity = find(css);								\
	value = identity ? identity->field : 0;						\
	mutex_unlock(&lock);								\
	return value;									\
}
READER(bvt)
READER(flags)
READER(priority)
READER(expel)
READER(qos_level)

static int write_bvt(struct cgroup_subsys_state *css, struct cftype *cft, s64 value)
{
	static const s64 flags[] = {
		UNDERCLASS | IDLE_SAVER, UNDERCLASS | IDLE_SAVER, 0,
		HIGHCLASS | IDLE_SEEKER, HIGHCLASS | IDLE_SEEKER | SMT_EXPELLER,
	};
	struct identity *identity;

	if (!css->parent)
		return -EINVAL;
	if (value < -2 || value > 2)
		return -ERANGE;
	if (!enabled && off_errno)
		return -off_errno;
	mutex_lock(&lock);
	identity = own(css);
	/* The value it has already changes nothing, also where cpu.identity was written since. */
	if (identity && identity->bvt != value) {
		identity->bvt = value;
		identity->flags = flags[value + 2];
	}
	mutex_unlock(&lock);
	return identity ? 0 : -ENOMEM;
}

static int write_flags(struct cgroup_subsys_state *css, struct cftype *cft, s64 value)
{
	struct identity *identity;

	if (!css->parent)
		return -EINVAL;
	if (value < 0 || value > ALL_FLAGS)
		return -ERANGE;
	if ((value & HIGHCLASS) && (value & UNDERCLASS))
		return -EINVAL;
	if (!enabled && off_errno)
		return -off_errno;
	mutex_lock(&lock);
	identity = own(css);
	if (identity)
		identity->flags = value;
	mutex_unlock(&lock);
	return identity ? 0 : -ENOMEM;
}

static int write_priority(struct cgroup_subsys_state *css, struct cftype *cft, s64 value)
{
	struct identity *identity;
	int error = 0;

	if (!css->parent || value < -1 || value > 1)
		return -EINVAL;
	mutex_lock(&lock);
	identity = own(css);
	/* The lowest one makes its group idle, and leaving it ends that. */
	if (identity && (identity->priority == -1) != (value == -1))
		error = set_idle(css, value == -1);
	if (identity && !error)
		identity->priority = value;
	mutex_unlock(&lock);
	return identity ? error : -ENOMEM;
}

static int write_expel(struct cgroup_subsys_state *css, struct cftype *cft, s64 value)
{
	struct identity *identity;

	if (!css->parent || value < -1 || value > 1)
		return -EINVAL;
	mutex_lock(&lock);
	identity = own(css);
	if (identity)
		identity->expel = value;
	mutex_unlock(&lock);
	return identity ? 0 : -ENOMEM;
}

/* cpu.idle against the priority. */
static int write_idle(struct cgroup_subsys_state *css, struct cftype *cft, s64 idle)
{
	struct identity *identity;
	s64 priority;

	mutex_lock(&lock);
	identity = find(css);
	priority = identity ? identity->priority : 0;
	mutex_unlock(&lock);
	if ((priority == -1 && !idle) || (priority == 1 && idle == 1))
		return -EINVAL;
	return idle_write(css, cft, idle);
}

/* One way: who is offline stays it, and all below go along. */
static int write_qos_level(struct cgroup_subsys_state *css, struct cftype *cft, s64 value)
{
	struct cgroup_subsys_state *each;
	struct identity *identity;
	int error = 0;

	if (!css->parent || value < -1 || value > 0)
		return -EINVAL;
	mutex_lock(&lock);
	identity = own(css);
	if (!identity) {
		error = -ENOMEM;
	} else if (identity->qos_level == -1 && value == 0) {
		error = -EINVAL;
	} else if (value == -1) {
		identity->qos_level = -1;
		rcu_read_lock();
		css_for_each_descendant_pre(each, css) {
			if (each == css || !css_tryget_online(each))
				continue;
			rcu_read_unlock();
			identity = own(each);
			if (identity)
				identity->qos_level = -1;
			else
				error = -ENOMEM;
			rcu_read_lock();
			css_put(each);
		}
		rcu_read_unlock();
	}
	mutex_unlock(&lock);
	return error;
}

#define FILE(file, field, on) { .name = file, .read_s64 = read_##field, .write_s64 = write_##field, .flags = on }
/* A table for each hierarchy: the kernel marks them. */
static struct cftype first_v1[] = { FILE("bvt_warp_ns", bvt, 0), FILE("identity", flags, 0), {} };
static struct cftype first_v2[] = {
	FILE("bvt_warp_ns", bvt, CFTYPE_NOT_ON_ROOT), FILE("identity", flags, CFTYPE_NOT_ON_ROOT), {}
};
static struct cftype second_v1[] = { FILE("priority", priority, 0), FILE("identity", expel, 0), {} };
static struct cftype second_v2[] = {
	FILE("priority", priority, CFTYPE_NOT_ON_ROOT), FILE("identity", expel, CFTYPE_NOT_ON_ROOT), {}
};
static struct cftype openeuler_v1[] = { FILE("qos_level", qos_level, 0), {} };

static struct { struct cftype *v1, *v2; } files[] = {
	[1] = { first_v1, first_v2 },
	[2] = { second_v1, second_v2 },
	[3] = { openeuler_v1, NULL },
};

static struct ctl_table switches[] = {
	{
		.procname = "sched_group_identity_enabled",
		.data = &enabled,
		.maxlen = sizeof(int),
		.mode = 0644,
		.proc_handler = proc_dointvec_minmax,
		.extra1 = SYSCTL_ZERO,
		.extra2 = SYSCTL_ONE,
	},
	{}
};

/* The kernel's own names are not for modules; a probe on the function that knows them tells where it is. */
static void *symbol(const char *name)
{
	static unsigned long (*lookup)(const char *name);
	struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };

	if (!lookup && !register_kprobe(&probe)) {
		lookup = (void *)probe.addr;
		unregister_kprobe(&probe);
	}
	return lookup ? (void *)lookup(name) : NULL;
}

static void guard_idle(struct cftype *cft)
{
	for (; cft && cft->name[0]; cft++) {
		if (!strcmp(cft->name, "idle") && cft->write_s64) {
			idle_write = cft->write_s64;
			cft->write_s64 = write_idle;
		}
	}
}

static int __init vendor_init(void)
{
	int (*add_v1)(struct cgroup_subsys *ss, struct cftype *files) = symbol("cgroup_add_legacy_cftypes");
	int (*add_v2)(struct cgroup_subsys *ss, struct cftype *files) = symbol("cgroup_add_dfl_cftypes");
	int error;

	cpu = symbol("cpu_cgrp_subsys");
	set_idle = symbol("sched_group_set_idle");
	if (kind < 1 || kind > 3 || off_errno < 0 || off_errno > MAX_ERRNO)
		return -EINVAL;
	if (!cpu || !set_idle || !add_v1 || !add_v2 || !cpu->css_free)
		return -ENOENT;
	if (enabled >= 0 && !register_sysctl("kernel", switches))
		return -ENOMEM;
	next_online = cpu->css_online;
	next_free = cpu->css_free;
	WRITE_ONCE(cpu->css_free, free_group);
	WRITE_ONCE(cpu->css_online, online);
	if (kind == 2) {
		guard_idle(cpu->legacy_cftypes);
		guard_idle(cpu->dfl_cftypes);
	}
	error = add_v1(cpu, files[kind].v1);
	if (!error && files[kind].v2)
		error = add_v2(cpu, files[kind].v2);
	/* The kernel's tables point here by now: this module stays. */
	if (error)
		pr_err("plimsoll_vendor: adding control files: %d\n", error);
	return 0;
}

module_init(vendor_init);
MODULE_DESCRIPTION("The CPU identity interfaces of vendor kernels, for tests");
MODULE_LICENSE("GPL");
