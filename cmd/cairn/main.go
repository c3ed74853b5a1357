// Command cairn is the whole store in one binary: the server, and the tools that talk to it.
//
// It owns flags, files and the environment, and turns results into text or JSON; everything else is in the packages that it
// wires together (internal/server does that for the server process).
//
// Exit codes: 0 success; 1 the operation failed; 2 the command line is wrong; 3 (status) the health is at-risk or lost,
// (scrub start --wait) damage was found or something could not be looked at.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

const (
	exitFailed = 1
	exitUsage  = 2
	exitRisk   = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// exitError carries an exit code other than 1; Err may be nil when everything has been said already.
type exitError struct {
	Code int
	Err  error
}

func (e *exitError) Error() string {
	if e.Err == nil {
		return ""
	}
	return e.Err.Error()
}

func (e *exitError) Unwrap() error { return e.Err }

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(stderr, "cairn: "+text)
	}
	var coded *exitError
	if errors.As(err, &coded) {
		return coded.Code
	}
	return exitFailed
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "cairn",
		Short:         "A distributed object store for model weights",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          usageArgs(cobra.NoArgs),
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usageError(c, err) })
	root.AddCommand(
		serverCommand(),
		statusCommand(),
		objectCommand(),
		scrubCommand(),
		repairCommand(),
		jobCommand(),
		planCommand(),
		nodeCommand(),
		driveCommand(),
		rebalanceCommand(),
		volumeCommand(),
		metaCommand(),
		tokenCommand(),
		configCommand(),
		benchCommand(),
		versionCommand(),
		bucketCommand(),
		eventCommand(),
		encryptionCommand(),
		userCommand(),
		keyCommand(),
		policyCommand(),
		groupCommand(),
		auditCommand(),
		whoamiCommand(),
		topCommand(),
		metricsCommand(),
		apiCommand(),
		mountCommand(),
		unmountCommand(),
		cacheCommand(),
	)
	return root
}

// usageArgs makes a check of arguments end with exit code 2 and a hint.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usageError(c, err)
		}
		return nil
	}
}

func usageError(c *cobra.Command, err error) error {
	return &exitError{Code: exitUsage, Err: fmt.Errorf("%w (see `%s --help`)", err, c.CommandPath())}
}

// group is a command that only holds others.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return usageError(c, errors.New("name a subcommand"))
		}}
	c.AddCommand(children...)
	return c
}
