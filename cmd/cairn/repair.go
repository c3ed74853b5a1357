package main

import (
	"github.com/spf13/cobra"

	"cairn/admin"
)

func repairCommand() *cobra.Command {
	return group("repair", "Rebuild lost shards", repairStatusCommand())
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
