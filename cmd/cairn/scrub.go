package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"cairn/admin"
)

const waitPoll = 300 * time.Millisecond

func scrubCommand() *cobra.Command {
	return group("scrub", "Check every shard", scrubStartCommand(), scrubStatusCommand())
}

func scrubStartCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	var wait bool
	c := &cobra.Command{
		Use:   "start",
		Short: "Begin a full pass now (or join the one under way)",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := flags.client()
			if err != nil {
				return err
			}
			var before, s admin.Scrub
			if err := a.call(c.Context(), "GET", "/api/v1/scrub", &before); err != nil {
				return err
			}
			if err := a.call(c.Context(), "POST", "/api/v1/scrub", &s); err != nil {
				return err
			}
			for wait && s.Passes <= before.Passes {
				select {
				case <-c.Context().Done():
					return c.Context().Err()
				case <-time.After(waitPoll):
				}
				if err := a.call(c.Context(), "GET", "/api/v1/scrub", &s); err != nil {
					return err
				}
				fmt.Fprintf(c.ErrOrStderr(), "\r%s   ", progressText(s.Progress))
			}
			if wait {
				fmt.Fprintln(c.ErrOrStderr())
			}
			return output.print(c.OutOrStdout(), s, func() string { return scrubText(s) })
		},
	}
	output.register(c)
	flags.register(c)
	c.Flags().BoolVar(&wait, "wait", false, "wait until the pass is complete")
	return c
}

func scrubStatusCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what the scrubber does and has found",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := flags.client()
			if err != nil {
				return err
			}
			var s admin.Scrub
			if err := a.call(c.Context(), "GET", "/api/v1/scrub", &s); err != nil {
				return err
			}
			return output.print(c.OutOrStdout(), s, func() string { return scrubText(s) })
		},
	}
	output.register(c)
	flags.register(c)
	return c
}
