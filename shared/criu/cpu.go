package criu

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/cpuinfo"
)

// checkCPU reports the first reason why a process that was frozen on one processor can't go on with another.
func checkCPU(frozen, here Host) error {
	if off := frozen.CPUBaseline.Missing(here); len(off) > 0 {
		return fmt.Errorf("%w: this processor (%s) lacks features of %s, which the app in the snapshot was held to: %s",
			ErrUnfit, here.CPUModel, frozen.CPUBaseline, strings.Join(off, ", "))
	}
	var missing []string
	for _, flag := range frozen.NeededFeatures() {
		if _, found := slices.BinarySearch(here.CPUFeatures, flag); !found {
			missing = append(missing, flag)
		}
	}
	switch {
	case len(missing) > 0:
		return fmt.Errorf("%w: this processor (%s) lacks features of the one that the snapshot was made on (%s): %s",
			ErrUnfit, here.CPUModel, frozen.CPUModel, strings.Join(missing, ", "))
	case frozen.CPUXFeatures&^here.CPUXFeatures != 0 && here.CPUXFeatures != 0:
		return fmt.Errorf("%w: this processor (%s) lacks register sets of the one that the snapshot was made on (%s): XCR0 bits %#x",
			ErrUnfit, here.CPUModel, frozen.CPUModel, frozen.CPUXFeatures&^here.CPUXFeatures)
	case differ(frozen.XSaveSize, here.XSaveSize):
		return fmt.Errorf("%w: this processor (%s) saves %d bytes of registers (xsave), the one that the snapshot was made on (%s) %d",
			ErrUnfit, here.CPUModel, here.XSaveSize, frozen.CPUModel, frozen.XSaveSize)
	case differ(frozen.XSaveMax, here.XSaveMax):
		return fmt.Errorf("%w: this processor (%s) has %d bytes of registers (xsave), the one that the snapshot was made on (%s) %d",
			ErrUnfit, here.CPUModel, here.XSaveMax, frozen.CPUModel, frozen.XSaveMax)
	}
	return nil
}

// NeededFeatures lists the features, as in /proc/cpuinfo, that a processor must have to go on with what was frozen on this host.
func (h Host) NeededFeatures() []string {
	if h.CPUBaseline.level() > 0 {
		return h.CPUBaseline.Missing(Host{})
	}
	return slices.DeleteFunc(slices.Clone(h.CPUFeatures), func(flag string) bool { return kernelFlags[flag] || speedFlags[flag] })
}

// differ compares two sizes of which zero is unknown.
func differ(a, b uint32) bool { return a != b && a != 0 && b != 0 }

// kernelFlags are those flags of /proc/cpuinfo that programs can't see or don't depend on: what the kernel notes for
// itself, mitigations, power and temperature, virtualisation, performance counters. They differ between kernels and
// hypervisors on equal processors.
var kernelFlags = flagSet(`
	acc_power acpi amd_dcm amd_lbr_v2 amd_ppin amd_ibpb_ret aperfmperf apic arat arch_capabilities arch_lbr arch_perfmon art
	auto_exit_clear avic bts bus_lock_detect cat_l2 cat_l3 cdp_l2 cdp_l3 cmp_legacy constant_tsc core_perfctr cpb cpuid
	cpuid_fault cppc cqm cqm_llc cqm_mbm_local cqm_mbm_total cqm_occup_llc cr8_legacy dca debug_swap decodeassists ds_cpl
	dtes64 dtherm dts epb ept ept_ad est extapic extd_apicid fast_lbr flexpriority flush_l1d flushbyasid fsrs hfi ht
	hw_pstate hwp hwp_act_window hwp_epp hwp_notify hwp_pkg_req hybrid_cpu hypervisor ibpb ibpb_exit_to_user ibrs
	ibrs_enhanced ibs ida intel_ppin intel_pt invpcid invpcid_single irperf la57 lbrv lm lmce local_ibpb mba mca mce md_clear
	monitor mtrr mwaitx nonstop_tsc nonstop_tsc_s3 npt nrip_save ospke osvw overflow_recov pausefilter pbe pbrs pcid pclock
	pconfig pdcm pdpe1gb pebs perfctr_core perfctr_l2 perfctr_llc perfctr_nb perfmon_v2 pfthreshold pge pln proc_feedback
	pse pse36 psfd pti pts rapl rdt_a rep_good ring3mwait sbpb sdbg sep sev sev_es sev_snp skinit smap sme smep smx
	split_lock_detect spec_ctrl srbds_ctrl srso_alias srso_no ss ssbd stibp succor svm svm_lock tce tdx_guest tm tm2 tme
	tpr_shadow tsa_l1_no tsa_sq_no tsc_deadline_timer tsc_known_freq tsc_reliable tsc_scale
	tsx_force_abort umip up v_spec_ctrl v_vmsave_vmload vgif virt_ssbd vmcb_clean vme vmmcall vmx vnmi vpid
	wbnoinvd wdt x2apic x2avic xtopology xtpr
`)

// speedFlags say that the string instructions are fast. Every processor has these, and programs choose other ones for speed alone.
var speedFlags = flagSet("erms fsrc fsrm fsrs fzrm")

func flagSet(names string) map[string]bool {
	set := map[string]bool{}
	for _, name := range strings.Fields(names) {
		set[name] = true
	}
	return set
}

// readCPU adds the processor to host: the kernel's list of flags, and the sizes that CRIU has asked the processor for.
func readCPU(procCPUInfo, image string, host *Host) error {
	f, err := os.Open(procCPUInfo)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() && (host.CPUModel == "" || host.CPUFeatures == nil) {
		key, value, _ := strings.Cut(lines.Text(), ":")
		switch strings.TrimSpace(key) {
		case "model name":
			host.CPUModel = strings.TrimSpace(value)
		case "flags":
			host.CPUFeatures = strings.Fields(value)
			slices.Sort(host.CPUFeatures)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read %s: %w", procCPUInfo, err)
	}
	if len(host.CPUFeatures) == 0 {
		return fmt.Errorf("%s lists no flags: not an x86 processor?", procCPUInfo)
	}
	return readXSave(image, host)
}

func readXSave(image string, host *Host) error {
	dir := &imageDir{path: filepath.Dir(image)}
	entry, err := decodeOne(dir, filepath.Base(image), &cpuinfo.CpuinfoEntry{})
	if err != nil {
		return err
	}
	if len(entry.GetX86Entry()) != 1 {
		return fmt.Errorf("%s: %d x86 processors, want 1", image, len(entry.GetX86Entry()))
	}
	x86 := entry.GetX86Entry()[0]
	host.CPUXFeatures, host.XSaveSize, host.XSaveMax = x86.GetXfeaturesMask(), x86.GetXsaveSize(), x86.GetXsaveSizeMax()
	return nil
}
