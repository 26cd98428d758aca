package ociruntime

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Guard regions (madvise(2), MADV_GUARD_INSTALL, Linux 6.13) discard memory without an event for the page server of a clone, and its
// copies overwrite them. So the donor's processes, and with them those of its clones, are told what an older kernel says: EINVAL. Who
// makes guards on newer kernels (glibc's threads, since 2.42) knows how to do without.

// advices are the system calls that take an advice, with the index of that argument.
var advices = []struct {
	call  string
	index uint
}{{"madvise", 2}, {"process_madvise", 3}}

// MADV_GUARD_INSTALL and MADV_GUARD_REMOVE are a pair that differs in its lowest bit. The kernel looks at the lower half of a register.
const (
	guardAdvice = 102
	adviceMask  = 1<<32 - 1
)

// refuseGuards has the container's seccomp filter refuse guard regions. It reports false if that can't be: where there is no filter, or
// one that has something of its own to say of advice.
func refuseGuards(filter *specs.LinuxSeccomp) bool {
	if filter == nil {
		return false
	}
	rules := filter.Syscalls
	for _, a := range advices {
		var ok bool
		if rules, ok = refuseAdvice(rules, a.call, a.index, permits(filter.DefaultAction)); !ok {
			return false
		}
	}
	filter.Syscalls = rules
	return true
}

// refuseAdvice returns the rules of a filter with those of one system call replaced.
func refuseAdvice(rules []specs.LinuxSyscall, name string, index uint, permitted bool) ([]specs.LinuxSyscall, bool) {
	var out []specs.LinuxSyscall
	var allow *specs.LinuxSyscall // what permits the system call, if it is not the default
	for _, r := range rules {
		if !slices.Contains(r.Names, name) {
			out = append(out, r)
			continue
		}
		if len(r.Args) > 0 {
			return nil, false
		}
		if !permits(r.Action) {
			return rules, true // all of it is refused, at the latest by this rule
		}
		rest := r
		rest.Names = slices.DeleteFunc(slices.Clone(r.Names), func(n string) bool { return n == name })
		if len(rest.Names) > 0 {
			out = append(out, rest)
		}
		allow = &r
	}
	if allow == nil && !permitted {
		return rules, true
	}
	invalid := uint(unix.EINVAL)
	out = append(out, specs.LinuxSyscall{
		Names: []string{name}, Action: specs.ActErrno, ErrnoRet: &invalid,
		Args: []specs.LinuxSeccompArg{{Index: index, Value: adviceMask &^ 1, ValueTwo: guardAdvice, Op: specs.OpMaskedEqual}},
	})
	if allow == nil {
		return out, true
	}
	// Rules with and without conditions don't go together, and there is no condition for "none of these": another advice differs in one
	// of the bits.
	for bit := uint64(2); bit <= adviceMask; bit <<= 1 {
		out = append(out, specs.LinuxSyscall{
			Names: []string{name}, Action: allow.Action, ErrnoRet: allow.ErrnoRet,
			Args: []specs.LinuxSeccompArg{{Index: index, Value: bit, ValueTwo: bit &^ guardAdvice, Op: specs.OpMaskedEqual}},
		})
	}
	return out, true
}

// permits reports whether an action lets a system call happen.
func permits(action specs.LinuxSeccompAction) bool {
	switch action {
	case specs.ActAllow, specs.ActLog, specs.ActTrace, specs.ActNotify:
		return true
	default:
		return false
	}
}
