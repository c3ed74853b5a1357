package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"cairn"
)

const (
	watchPoll  = time.Second      // between looks at a job
	watchEvery = 10 * time.Second // between lines where no terminal is
	barWidth   = 30
)

func jobCommand() *cobra.Command {
	return group("job", "Watch, pause, resume and cancel long work", jobListCommand(), jobShowCommand(),
		jobWishCommand("pause", "Stop a job for now; what it has done stays done"),
		jobWishCommand("resume", "Let a paused job go on"),
		jobWishCommand("cancel", "End a job before it is done"))
}

func jobListCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	var all bool
	c := &cobra.Command{
		Use:   "ls",
		Short: "List jobs",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := flags.client()
			if err != nil {
				return err
			}
			var jobs []cairn.Job
			if err := a.call(c.Context(), "GET", "/api/v1/jobs", &jobs); err != nil {
				return err
			}
			shown := []cairn.Job{}
			for _, j := range jobs {
				if all || !j.Ended() {
					shown = append(shown, j)
				}
			}
			return output.print(c.OutOrStdout(), shown, func() string { return jobsText(shown) })
		},
	}
	output.register(c)
	flags.register(c)
	c.Flags().BoolVar(&all, "all", false, "list ended jobs too (the last 100)")
	return c
}

func jobShowCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	var watch bool
	c := &cobra.Command{
		Use:   "show JOB",
		Short: "Show one job",
		Long: "Show one job. With --watch, follow it until it ends: a progress bar on a terminal, else a line every ten seconds.\n\n" +
			"Exit code with --watch: 0 done, 1 failed or canceled.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			a, err := flags.client()
			if err != nil {
				return err
			}
			id, err := cairn.ParseJobID(args[0])
			if err != nil {
				return usageError(c, err)
			}
			j, err := showJob(c.Context(), a, id, watch, c.ErrOrStderr())
			if err != nil {
				return err
			}
			if err := output.print(c.OutOrStdout(), j, func() string { return jobText(j) }); err != nil {
				return err
			}
			return jobOutcome(j, watch)
		},
	}
	output.register(c)
	flags.register(c)
	c.Flags().BoolVar(&watch, "watch", false, "follow the job until it ends")
	return c
}

func jobWishCommand(action, short string) *cobra.Command {
	var output outputFlag
	var flags adminFlags
	c := &cobra.Command{
		Use:   action + " JOB",
		Short: short,
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			a, err := flags.client()
			if err != nil {
				return err
			}
			id, err := cairn.ParseJobID(args[0])
			if err != nil {
				return usageError(c, err)
			}
			var j cairn.Job
			if err := a.call(c.Context(), "POST", "/api/v1/jobs/"+id.String()+"/"+action, &j); err != nil {
				return err
			}
			return output.print(c.OutOrStdout(), j, func() string { return jobText(j) })
		},
	}
	output.register(c)
	flags.register(c)
	return c
}

// jobOutcome is the exit code of a command that waited for a job.
func jobOutcome(j cairn.Job, waited bool) error {
	if waited && (j.State == cairn.JobFailed || j.State == cairn.JobCanceled) {
		return &exitError{Code: exitFailed, Err: errors.New("job " + j.ID.String() + " was " + j.State)}
	}
	return nil
}

// showJob returns a job, with watch set once it has ended; until then it tells w how far it is.
func showJob(ctx context.Context, a *adminClient, id cairn.JobID, watch bool, w io.Writer) (j cairn.Job, err error) {
	follow := followLines(w)
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		follow = followBar(w)
	}
	for {
		j = cairn.Job{} // fields that are empty now are left out of the answer
		if err := a.call(ctx, "GET", "/api/v1/jobs/"+id.String(), &j); err != nil || !watch {
			return j, err
		}
		follow(j)
		if j.Ended() {
			return j, nil
		}
		select {
		case <-ctx.Done():
			return j, ctx.Err()
		case <-time.After(watchPoll):
		}
	}
}

// followLines prints a line every ten seconds, and whenever the state changes.
func followLines(w io.Writer) func(cairn.Job) {
	var last time.Time
	var state string
	return func(j cairn.Job) {
		if j.State != state || time.Since(last) >= watchEvery {
			last, state = time.Now(), j.State
			fmt.Fprintf(w, "%s %s: %s\n", j.Kind, j.Subject, progressText(j.Progress))
		}
	}
}

// followBar draws a bar.
func followBar(w io.Writer) func(cairn.Job) {
	bar := progressbar.NewOptions64(1, progressbar.OptionSetWriter(w), progressbar.OptionSetWidth(barWidth),
		progressbar.OptionShowBytes(false), progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false))
	return func(j cairn.Job) {
		bar.ChangeMax64(max(j.TotalBytes, 1))
		bar.Describe(string(j.Kind) + " " + progressText(j.Progress))
		bar.Set64(min(j.DoneBytes, max(j.TotalBytes, 1))) // an error would be the terminal's
		if j.Ended() {
			fmt.Fprintln(w)
		}
	}
}

func jobsText(jobs []cairn.Job) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "JOB\tKIND\tSUBJECT\tPROGRESS")
	for _, j := range jobs {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", j.ID, j.Kind, j.Subject, progressText(j.Progress))
	}
	t.Flush()
	return b.String()
}

func jobText(j cairn.Job) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "job\t%s\nkind\t%s\n", j.ID, j.Kind)
	if j.Subject != "" {
		fmt.Fprintf(t, "subject\t%s\n", j.Subject)
	}
	fmt.Fprintf(t, "progress\t%s\n", progressText(j.Progress))
	if j.Wish != cairn.WishRun && !j.Ended() {
		fmt.Fprintf(t, "wished\t%s\n", j.Wish)
	}
	for _, row := range []struct {
		name string
		at   time.Time
	}{{"created", j.Created}, {"started", j.Started}, {"finished", j.Finished}} {
		if !row.at.IsZero() {
			fmt.Fprintf(t, "%s\t%s\n", row.name, row.at.Format(time.RFC3339))
		}
	}
	fmt.Fprintf(t, "blobs\t%d of %d\n", j.DoneBlobs, j.TotalBlobs)
	t.Flush()
	return b.String()
}
