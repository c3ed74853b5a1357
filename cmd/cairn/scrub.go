package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"cairn"
	"cairn/admin"
)

const exitUnclean = 3 // a scrub found damage, or could not look at all that it should

func scrubCommand() *cobra.Command {
	return group("scrub", "Check shards against their checksums and against what should be there",
		scrubStartCommand(), scrubStatusCommand(), scrubFindingsCommand())
}

// scrubScope says what to check.
type scrubScope struct{ bucket, drive, object string }

func (s scrubScope) query() (string, error) {
	named := 0
	for _, v := range []string{s.bucket, s.drive, s.object} {
		if v != "" {
			named++
		}
	}
	if named > 1 {
		return "", errors.New("name one of --bucket, --drive and --object, or none for everything")
	}
	q := url.Values{}
	switch {
	case s.bucket != "":
		q.Set("bucket", s.bucket)
	case s.drive != "":
		q.Set("drive", s.drive)
	case s.object != "":
		bucket, key, ok := strings.Cut(s.object, "/")
		if !ok || bucket == "" || key == "" {
			return "", fmt.Errorf("--object %s: want BUCKET/KEY", s.object)
		}
		q.Set("bucket", bucket)
		q.Set("key", key)
	}
	return q.Encode(), nil
}

func scrubStartCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	var scope scrubScope
	var wait bool
	c := &cobra.Command{
		Use:   "start",
		Short: "Check everything, a bucket, a drive or an object now",
		Long: "Read every shard of what is named, compare it with its checksums, and look for what is missing. It is a job: `cairn job`\n" +
			"pauses, resumes and cancels it, and a check of the same that is under way is joined. What is found is queued for repair\n" +
			"and listed by `cairn scrub findings`.\n\n" +
			"Exit code: 0 begun, with --wait: all was looked at and is clean; 3 with --wait: damage was found, or something could not\n" +
			"be looked at; 1 refused, failed or canceled.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			query, err := scope.query()
			if err != nil {
				return usageError(c, err)
			}
			a, err := flags.client()
			if err != nil {
				return err
			}
			var s admin.Scrubbing
			if err := a.call(c.Context(), "POST", "/api/v1/scrub?"+query, &s); err != nil {
				return err
			}
			j := s.Job
			if wait {
				if j, err = showJob(c.Context(), a, j.ID, true, c.ErrOrStderr()); err != nil {
					return err
				}
			}
			if err := output.print(c.OutOrStdout(), j, func() string { return scrubJobText(j) }); err != nil {
				return err
			}
			return scrubOutcome(j, wait)
		},
	}
	output.register(c)
	flags.register(c)
	c.Flags().StringVar(&scope.bucket, "bucket", "", "only the objects of this bucket, all versions")
	c.Flags().StringVar(&scope.drive, "drive", "", "only this drive: its ID, the beginning of it, or its path")
	c.Flags().StringVar(&scope.object, "object", "", "only this object, BUCKET/KEY, its current version")
	c.Flags().BoolVar(&wait, "wait", false, "wait until it is complete")
	return c
}

func scrubOutcome(j cairn.Job, waited bool) error {
	if err := jobOutcome(j, waited); err != nil || !waited {
		return err
	}
	if j.Found+j.Unchecked > 0 {
		return &exitError{Code: exitUnclean, Err: errors.New("not clean: see `cairn scrub findings`")}
	}
	return nil
}

func scrubJobText(j cairn.Job) string {
	text := fmt.Sprintf("job %s: %s: %s", j.ID, j.Subject, progressText(j.Progress))
	switch {
	case !j.Ended():
		return text
	case j.Found+j.Unchecked == 0 && j.State == cairn.JobDone:
		return text + "\nclean"
	}
	return text + fmt.Sprintf("\n%d shards damaged, %d drives not looked at", j.Found, j.Unchecked)
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

func scrubFindingsCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	var most int
	c := &cobra.Command{
		Use:   "findings",
		Short: "List what was found wrong, and what became of it",
		Long: "List what reads, writes, scrub and repair found wrong: what is open first, then what is resolved, the latest first (the\n" +
			"last " + strconv.Itoa(cairn.MaxFindings) + " are kept).",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := flags.client()
			if err != nil {
				return err
			}
			list, err := findings(c.Context(), a, most)
			if err != nil {
				return err
			}
			return output.print(c.OutOrStdout(), list, func() string { return findingsText(list) })
		},
	}
	output.register(c)
	flags.register(c)
	c.Flags().IntVar(&most, "max", 1000, "how many at most")
	return c
}

func findings(ctx context.Context, a *adminClient, most int) (list []cairn.Finding, err error) {
	return list, a.call(ctx, "GET", "/api/v1/findings?max="+strconv.Itoa(most), &list)
}

func findingsText(list []cairn.Finding) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "FOUND\tKIND\tWHERE\tDRIVE\tCOUNT\tBY\tOUTCOME\tRESOLVED")
	for _, f := range list {
		where, resolved, count := "-", "-", "-"
		switch {
		case f.Shard.Blob != 0:
			where = f.Shard.String()
		case f.Shard.Volume != 0:
			where = fmt.Sprintf("%s.%d", f.Shard.Volume, f.Shard.Slot)
		}
		if !f.Resolved.IsZero() {
			resolved = f.Resolved.Format(time.RFC3339)
		}
		if f.Count > 0 {
			count = strconv.FormatInt(f.Count, 10)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.8s\t%s\t%s\t%s\t%s\n", f.Found.Format(time.RFC3339), f.Kind, where, f.Drive, count, f.By, f.Outcome, resolved)
		if f.Note != "" {
			fmt.Fprintf(t, "\t  %s\n", f.Note)
		}
	}
	t.Flush()
	return b.String()
}
