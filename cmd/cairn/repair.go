package main

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"cairn"
	"cairn/admin"
)

func repairCommand() *cobra.Command {
	return group("repair", "Rebuild lost shards", repairStatusCommand(), repairThrottleCommand())
}

func repairThrottleCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	set := map[string]*string{}
	var back bool
	c := &cobra.Command{
		Use:   "throttle",
		Short: "Show how fast background work may go, and bound it",
		Long: "Show how fast repair, scrub and whatever else is no client's work may read and write on each drive and node, how\n" +
			"fast it goes, and why. With flags, set the limits, from now on and after a restart: work may always go at the floor\n" +
			"and never above the ceiling, in bytes per second, 1 MiB to 64 GiB. In between it gives way while clients' operations\n" +
			"take longer than undisturbed. Repair of blobs that can lose no further shard goes at the ceiling. To stop repair\n" +
			"altogether, use `cairn job pause`.",
		Example: "  cairn repair throttle\n  cairn repair throttle --drive-floor 20MiB --drive-ceiling 200MiB",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			method, query := "GET", url.Values{}
			for name, text := range set {
				if *text == "" {
					continue
				}
				n, err := parseSize(*text)
				if err != nil {
					return usageError(c, err)
				}
				query.Set(name, strconv.FormatInt(n, 10))
			}
			if back {
				query.Set("default", "1")
			}
			if len(query) > 0 {
				method = "POST"
			}
			a, err := flags.client()
			if err != nil {
				return err
			}
			var t admin.Throttle
			if err := a.call(c.Context(), method, "/api/v1/repair/throttle?"+query.Encode(), &t); err != nil {
				return err
			}
			return output.print(c.OutOrStdout(), t, func() string { return throttleText(t) })
		},
	}
	for _, of := range []string{"drive", "node"} {
		set[of+"-floor"] = c.Flags().String(of+"-floor", "", "what background work may always move on a "+of+", per second")
		set[of+"-ceiling"] = c.Flags().String(of+"-ceiling", "", "what background work may move at most on a "+of+", per second")
	}
	c.Flags().BoolVar(&back, "default", false, "go back to the default limits (other flags apply on top)")
	output.register(c)
	flags.register(c)
	return c
}

// throttleText is a table of the drives and nodes.
func throttleText(t admin.Throttle) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "BACKGROUND WORK ON\tFLOOR\tCEILING\tALLOWED\tMOVES\tWHY")
	row := func(name string, p cairn.Pace) {
		fmt.Fprintf(w, "%s\t%s/s\t%s/s\t%s/s\t%s/s\t%s\n", name, bytesText(p.Floor), bytesText(p.Ceiling), bytesText(p.Now), bytesText(p.Moved), p.Why)
	}
	for _, d := range t.Drives {
		name := d.Path
		if d.Node != "" {
			name = d.Node + ":" + d.Path
		}
		row(name, d.Pace)
	}
	for _, n := range t.Nodes {
		row(strings.TrimSpace("node "+n.Node), n.Pace)
	}
	w.Flush() // into memory
	return strings.TrimRight(b.String(), "\n")
}

func repairStatusCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what repair does and what waits for it",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := flags.client()
			if err != nil {
				return err
			}
			var r admin.Repair
			if err := a.call(c.Context(), "GET", "/api/v1/repair", &r); err != nil {
				return err
			}
			return output.print(c.OutOrStdout(), r, func() string { return repairText(r) })
		},
	}
	output.register(c)
	flags.register(c)
	return c
}
