package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"cairn"
	"cairn/admin"
	"cairn/durability"
)

func statusCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	c := &cobra.Command{
		Use:   "status",
		Short: "Show health, drives, redundancy, scrub, repair and capacity",
		Long: "Show the verdict on the store's health and what it is made from.\n\n" +
			"Exit code 0: ok or healing. 3: at-risk or lost. 1: no answer.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := flags.client()
			if err != nil {
				return err
			}
			var st admin.Status
			if err := a.call(c.Context(), "GET", "/api/v1/status", &st); err != nil {
				return err
			}
			if err := output.print(c.OutOrStdout(), st, func() string { return statusText(st) }); err != nil {
				return err
			}
			if st.Health == admin.HealthAtRisk || st.Health == admin.HealthLost {
				return &exitError{Code: exitRisk}
			}
			return nil
		},
	}
	output.register(c)
	flags.register(c)
	return c
}

func statusText(st admin.Status) string {
	var b strings.Builder
	fmt.Fprintf(&b, "health    %s\n", st.Health)
	for _, r := range st.Reasons {
		fmt.Fprintf(&b, "          %s\n", r)
	}
	if st.Needs != "" {
		fmt.Fprintf(&b, "needs     %s\n", st.Needs)
	}
	fmt.Fprintf(&b, "cluster   %s, node %s, profile %s, up %s\n", st.Cluster, st.Node, st.Profile,
		st.Now.Sub(st.Started).Round(time.Second))
	fmt.Fprintf(&b, "capacity  %s used, %s free on drives; clients may store %s more\n", bytesText(st.Capacity.UsedBytes),
		bytesText(st.Capacity.FreeBytes), bytesText(st.Capacity.UsableBytes))
	fmt.Fprintf(&b, "blobs     %s\n", countsText(st.BlobsBySpare, "spare"))
	fmt.Fprintf(&b, "volumes   %d open, %d sealed; %s\n", st.Volumes.Open, st.Volumes.Sealed, countsText(st.Volumes.BySpare, "spare"))
	fmt.Fprintf(&b, "scrub     %s\n", scrubText(st.Scrub))
	fmt.Fprintf(&b, "repair    %s\n", repairText(st.Repair))
	fmt.Fprintf(&b, "safety    %s\n", safetyText(st))
	for _, o := range st.Safety.Outlook {
		fmt.Fprintf(&b, "          %s\n", outlookText(o))
	}
	b.WriteString("\n")
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "DRIVE\tSTATE\tSINCE\tSHARDS\tLIVE\tFREE\tPATH")
	for _, d := range st.Drives {
		id := d.ID
		if len(id) > 8 {
			id = id[:8]
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", id, d.State, sinceText(st.Now, d.Since), d.Shards,
			bytesText(d.LiveBytes), bytesText(d.FreeBytes), drivePlace(d))
		if d.Reason != "" {
			fmt.Fprintf(t, "\t  %s\n", d.Reason)
		}
	}
	fmt.Fprintln(t, "\nVOTER\tSTATE\tROLE\tPATH")
	for _, v := range st.Voters {
		role := "follower"
		if v.Leader {
			role = "leader"
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\n", v.ID, v.State, role, v.Path)
	}
	t.Flush()
	return b.String()
}

// drivePlace is a drive's path, with its node's name in a cluster.
func drivePlace(d admin.Drive) string {
	if d.Node == "" {
		return d.Path
	}
	return d.Node + ":" + d.Path
}

func sinceText(now, since time.Time) string {
	if since.IsZero() {
		return "-"
	}
	return now.Sub(since).Round(time.Second).String()
}

// countsText prints "1,200 with 2 spare, 3 with 1 spare", the worst first.
func countsText(counts map[int]int64, what string) string {
	var parts []string
	for _, spare := range slices.Sorted(maps.Keys(counts)) {
		if spare < 0 {
			parts = append(parts, fmt.Sprintf("%d LOST", counts[spare]))
			continue
		}
		parts = append(parts, fmt.Sprintf("%d with %d %s", counts[spare], spare, what))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func scrubText(s admin.Scrub) string {
	return fmt.Sprintf("%s; %d passes, %d findings, %d orphans", progressText(s.Progress), s.Passes, s.Findings, s.Orphans)
}

func repairText(r admin.Repair) string {
	doing := progressText(r.Progress)
	if r.State == cairn.JobRunning && r.Queued == 0 {
		doing = "idle"
	}
	text := fmt.Sprintf("%s; %d queued", doing, r.Queued)
	if r.Waiting != "" {
		text += "; waiting: " + r.Waiting
	}
	return text
}

// safetyText says when all is whole again, and what was measured of the drives.
func safetyText(st admin.Status) string {
	text := "no damage waits"
	if r := st.Repair; !r.Oldest.IsZero() {
		text = "oldest damage found " + st.Now.Sub(r.Oldest).Round(time.Second).String() + " ago, "
		switch {
		case r.Waiting != "":
			text += "waiting: " + r.Waiting
		case r.SafeIn > 0:
			text += "all whole again in " + r.SafeIn.Round(time.Second).String()
		default:
			text += "not known yet when all is whole again"
		}
	}
	for _, c := range st.Safety.Classes {
		text += fmt.Sprintf("; %s drives: %d failures in %.2f drive-years", c.Class, c.Failures, c.DriveYears)
		if c.MTTR > 0 {
			text += ", whole again after " + c.MTTR.Round(time.Second).String()
		}
	}
	return text
}

func outlookText(o durability.Outlook) string {
	return fmt.Sprintf("%s: a stripe lost every %.2g years (%.2g if failures are %g times as likely after the first), readable %.9f of the time (a model; see cairn plan)",
		o.Profile, o.MTTDLYears, o.Correlated, o.Correlation, o.Read)
}

func progressText(p cairn.Progress) string {
	text := p.State
	if p.Reason != "" {
		text += " (" + p.Reason + ")"
	}
	if p.TotalBytes > 0 {
		text += fmt.Sprintf(", %s of %s", bytesText(p.DoneBytes), bytesText(p.TotalBytes))
	}
	if p.RateBytesPerSec > 0 {
		text += fmt.Sprintf(", %s/s", bytesText(int64(p.RateBytesPerSec)))
	}
	if p.ETA > 0 {
		text += ", " + p.ETA.Round(time.Second).String() + " left"
	}
	if p.LastError != "" {
		text += "; last error: " + p.LastError
	}
	return text
}
