package main

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"cairn"
	"cairn/admin"
	"cairn/health"
)

// driveDetail is a drive with its health.
type driveDetail struct {
	cairn.Drive
	Health *health.Verdict `json:"health,omitempty"`
}

func findDriveDetail(ctx context.Context, a *adminClient, what string) (d driveDetail, err error) {
	if d.Drive, err = findDrive(ctx, a, what); err != nil {
		return d, err
	}
	var st admin.Status
	if err := a.call(ctx, "GET", "/api/v1/status", &st); err != nil {
		return d, err
	}
	for _, row := range st.Drives {
		if row.ID == d.ID.String() {
			d.Health = row.Health
		}
	}
	return d, nil
}

func driveDetailText(d driveDetail, now time.Time) string {
	text := driveText(d.Drive, now)
	if d.Health == nil {
		return text + "health   not measured yet\n"
	}
	text += fmt.Sprintf("health   %d of 100", d.Health.Score)
	if d.Health.Wearing {
		text += ": it wears out; empty it with `cairn drive drain`"
	}
	text += "\n"
	for _, s := range d.Health.Signals {
		text += fmt.Sprintf("         -%d %s: %s\n", s.Cost, s.Kind, s.Text)
	}
	return text
}

func driveDrainCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	var dry, watch bool
	c := &cobra.Command{
		Use:   "drain DRIVE",
		Short: "Move everything off a drive, which then may be removed",
		Long: "Move everything off a drive: each slot is copied to another drive and read back before it moves, so no blob ever has\n" +
			"fewer good shards. DRIVE is a path, an ID or the beginning of one. Nothing is begun if a slot has no other place.\n" +
			"The drive takes nothing new until `cairn drive undrain`.\n\n" +
			"Exit code: 0 begun (with --watch: done), 1 refused or failed.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			a, err := flags.client()
			if err != nil {
				return err
			}
			q := url.Values{"drive": {args[0]}}
			if dry {
				q.Set("dry-run", "1")
			}
			var d admin.Drain
			if err := a.call(c.Context(), "POST", "/api/v1/drains?"+q.Encode(), &d); err != nil {
				return err
			}
			if d.Job != nil {
				j, err := showJob(c.Context(), a, d.Job.ID, watch, c.ErrOrStderr())
				if err != nil {
					return err
				}
				d.Job = &j
			}
			if err := output.print(c.OutOrStdout(), d, func() string { return drainText(d) }); err != nil || d.Job == nil {
				return err
			}
			return jobOutcome(*d.Job, watch)
		},
	}
	output.register(c)
	flags.register(c)
	c.Flags().BoolVar(&dry, "dry-run", false, "only say what it would take")
	c.Flags().BoolVar(&watch, "watch", false, "follow the job until it ends")
	return c
}

func drainText(d admin.Drain) string {
	text := fmt.Sprintf("drive %s (%s): %d slots, %d shards, about %s", d.Path, d.Drive, d.Slots, d.Blobs, bytesText(d.Bytes))
	if d.Job == nil {
		return text + "; nothing was begun"
	}
	return text + fmt.Sprintf("\njob %s: %s", d.Job.ID, progressText(d.Job.Progress))
}

func driveUndrainCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	c := &cobra.Command{
		Use:   "undrain DRIVE",
		Short: "Call a drain off, and use the drive again",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			a, err := flags.client()
			if err != nil {
				return err
			}
			var d cairn.Drive
			if err := a.call(c.Context(), "DELETE", "/api/v1/drains?"+url.Values{"drive": {args[0]}}.Encode(), &d); err != nil {
				return err
			}
			return output.print(c.OutOrStdout(), d, func() string { return fmt.Sprintf("drive %s (%s) takes new slots again", d.Path, d.ID) })
		},
	}
	output.register(c)
	flags.register(c)
	return c
}
