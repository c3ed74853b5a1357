package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"cairn"
	"cairn/admin"
)

func rebalanceCommand() *cobra.Command {
	return group("rebalance", "Make the drives equally full", rebalanceStartCommand(), rebalanceStatusCommand(),
		rebalanceWishCommand("pause", "Stop the rebalance for now; what has moved stays"),
		rebalanceWishCommand("resume", "Let the paused rebalance go on"),
		rebalanceWishCommand("cancel", "End the rebalance; what has moved stays"))
}

func rebalanceStartCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	var dry, watch bool
	c := &cobra.Command{
		Use:   "start",
		Short: "Begin to move slots from the fullest drives to the emptiest",
		Long: "Begin to move slots from the fullest drives to the emptiest, as few bytes as it takes: each is copied and read back before it\n" +
			"moves, and no two slots of a volume come into one failure domain. Volumes that take new blobs now are closed for that.\n\n" +
			"Exit code: 0 begun (with --watch: done), 1 refused or failed.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := flags.client()
			if err != nil {
				return err
			}
			var b admin.Balance
			if err := a.call(c.Context(), "POST", "/api/v1/rebalance"+dryQuery(dry), &b); err != nil {
				return err
			}
			return finishJob(c, a, output, watch, &b.Job, b, func() string { return balanceText(b) })
		},
	}
	output.register(c)
	flags.register(c)
	c.Flags().BoolVar(&dry, "dry-run", false, "only say what it would take")
	c.Flags().BoolVar(&watch, "watch", false, "follow the job until it ends")
	return c
}

func rebalanceStatusCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	c := &cobra.Command{Use: "status", Short: "Show how unevenly full the drives are, and how far the last rebalance has come",
		Args: usageArgs(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
			_, b, err := flags.balance(c)
			if err != nil {
				return err
			}
			return output.print(c.OutOrStdout(), b, func() string { return balanceText(b) })
		}}
	output.register(c)
	flags.register(c)
	return c
}

// balance asks how things stand.
func (f *adminFlags) balance(c *cobra.Command) (a *adminClient, b admin.Balance, err error) {
	if a, err = f.client(); err != nil {
		return a, b, err
	}
	return a, b, a.call(c.Context(), "GET", "/api/v1/rebalance", &b)
}

// rebalanceWishCommand is `cairn job pause`, resume or cancel for the job of the last rebalance.
func rebalanceWishCommand(action, short string) *cobra.Command {
	var output outputFlag
	var flags adminFlags
	c := &cobra.Command{Use: action, Short: short, Args: usageArgs(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		a, b, err := flags.balance(c)
		if err != nil {
			return err
		}
		if b.Job == nil {
			return errors.New("there was no rebalance yet; `cairn rebalance start` begins one")
		}
		var j cairn.Job
		if err := a.call(c.Context(), "POST", "/api/v1/jobs/"+b.Job.ID.String()+"/"+action, &j); err != nil {
			return err
		}
		return output.print(c.OutOrStdout(), j, func() string { return jobText(j) })
	}}
	output.register(c)
	flags.register(c)
	return c
}

func balanceText(b admin.Balance) string {
	text := fmt.Sprintf("spread %.1f%% of the mean between the fullest and the emptiest drive; %d slots with about %s to move", 100*b.Spread, b.Slots, bytesText(b.Bytes))
	if b.Job == nil {
		return text
	}
	return text + fmt.Sprintf("\njob %s: %s", b.Job.ID, progressText(b.Job.Progress))
}
