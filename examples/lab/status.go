package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

type nodeReport struct {
	Name     string            `json:"name"`
	Running  bool              `json:"running"`
	InitPID  int               `json:"init_pid,omitempty"`
	Docker   string            `json:"docker,omitempty"` // address from the host
	Services []serviceState    `json:"services,omitempty"`
	Versions map[string]string `json:"versions,omitempty"`
	Error    string            `json:"error,omitempty"`
}

// reportedPackages are those whose versions decide whether a snapshot restores.
var reportedPackages = []string{"docker.io", "containerd", "runc", "criu", "podman"}

func statusCommand(lab *Lab) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what runs, in which versions and where it is reached",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			nodes, err := lab.nodes()
			if err != nil {
				return err
			}
			reports := []nodeReport{}
			for _, n := range nodes {
				reports = append(reports, n.report(cmd))
			}
			if asJSON {
				encoder := json.NewEncoder(os.Stdout)
				encoder.SetIndent("", "  ")
				return encoder.Encode(reports)
			}
			return printReports(reports)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func (n *Node) report(cmd *cobra.Command) nodeReport {
	r := nodeReport{Name: n.Name, InitPID: n.initPID()}
	if r.InitPID == 0 {
		return r
	}
	r.Running = true
	r.Docker = fmt.Sprintf("unix:///proc/%d/root/run/docker.sock", r.InitPID)
	state, err := n.state(cmd.Context())
	if err != nil {
		r.Error = err.Error()
		return r
	}
	r.Services = state.Services
	for i := range r.Services {
		// The node's path of its own directory means nothing to the reader on the host.
		r.Services[i].Log = filepath.Join(n.Dir, strings.TrimPrefix(r.Services[i].Log, "/lab"))
	}
	r.Versions = packageVersions(state.Spec.Rootfs)
	return r
}

func packageVersions(rootfs string) map[string]string {
	versions := map[string]string{}
	b, err := os.ReadFile(filepath.Join(rootfs, "etc", "lab-packages"))
	if err != nil {
		return versions
	}
	for line := range strings.Lines(string(b)) {
		name, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		for _, wanted := range reportedPackages {
			if name == wanted {
				versions[name] = version
			}
		}
	}
	return versions
}

func printReports(reports []nodeReport) error {
	if len(reports) == 0 {
		fmt.Println("The lab is down and has no nodes.")
		return nil
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tSERVICE\tSTATE\tSINCE\tSTARTS\tLOG")
	for _, r := range reports {
		if !r.Running {
			fmt.Fprintf(w, "%s\t-\tdown\t\t\t\n", r.Name)
			continue
		}
		if r.Error != "" {
			fmt.Fprintf(w, "%s\t-\t%s\t\t\t\n", r.Name, r.Error)
		}
		for _, s := range r.Services {
			state := "starting"
			switch {
			case s.Ready:
				state = "ready"
			case s.PID == 0:
				state = "stopped (" + s.LastExit + ")"
			}
			since := "-"
			if s.Starts > 0 {
				since = time.Since(s.Since).Round(time.Second).String()
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", r.Name, s.Name, state, since, s.Starts, s.Log)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range reports {
		if r.Running {
			fmt.Printf("\n%s: init %d, docker from the host: DOCKER_HOST=%s\n", r.Name, r.InitPID, r.Docker)
			for _, p := range reportedPackages {
				fmt.Printf("  %-12s %s\n", p, r.Versions[p])
			}
		}
	}
	return nil
}
