package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"cairn/admin"
)

func repairCommand() *cobra.Command {
	return group("repair", "Rebuild lost shards", repairStatusCommand(), repairThrottleCommand())
}

func repairThrottleCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	c := &cobra.Command{
		Use:     "throttle BYTES-PER-SECOND",
		Short:   "Bound what repair writes, from now on and after a restart",
		Long:    "Bound what repair writes in a second: 1 MiB to 64 GiB. To stop it altogether, use `cairn job pause`.",
		Example: "  cairn repair throttle 200MiB",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			n, err := parseSize(args[0])
			if err != nil {
				return usageError(c, err)
			}
			a, err := flags.client()
			if err != nil {
				return err
			}
			var t admin.Throttle
			if err := a.call(c.Context(), "POST", fmt.Sprintf("/api/v1/repair/throttle?bytes-per-second=%d", n), &t); err != nil {
				return err
			}
			return output.print(c.OutOrStdout(), t, func() string { return "repair writes at most " + bytesText(t.BytesPerSecond) + "/s" })
		},
	}
	output.register(c)
	flags.register(c)
	return c
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
