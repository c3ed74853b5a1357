package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"cairn"
	"cairn/admin"
)

func nodeDrainCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	var dry, watch bool
	c := &cobra.Command{
		Use:   "drain NODE",
		Short: "Move everything off a node, which then may be removed",
		Long: "Move everything off a node: its metadata voters move to other nodes first, then each slot is copied to a drive of another\n" +
			"node and read back before it moves, so no blob ever has fewer good shards. Nothing is begun if a slot has no other place,\n" +
			"too few nodes would be left for the metadata, or too few drives for the profile. The node takes nothing new until\n" +
			"`cairn node undrain`.\n\n" +
			"Exit code: 0 begun (with --watch: done), 1 refused or failed.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			a, n, err := flags.node(c, args[0])
			if err != nil {
				return err
			}
			var d admin.NodeDrain
			if err := a.call(c.Context(), "POST", "/api/v1/nodes/"+n.ID.String()+"/drain"+dryQuery(dry), &d); err != nil {
				return err
			}
			return finishJob(c, a, output, watch, &d.Job, d, func() string { return nodeDrainText(d) })
		},
	}
	output.register(c)
	flags.register(c)
	c.Flags().BoolVar(&dry, "dry-run", false, "only say what it would take")
	c.Flags().BoolVar(&watch, "watch", false, "follow the job until it ends")
	return c
}

// node finds the node that an argument names.
func (f *adminFlags) node(c *cobra.Command, what string) (a *adminClient, n cairn.Node, err error) {
	if a, err = f.client(); err != nil {
		return a, n, err
	}
	n, err = findNode(c.Context(), a, what)
	return a, n, err
}

func dryQuery(dry bool) string {
	if dry {
		return "?dry-run=1"
	}
	return ""
}

// finishJob follows the job of an answer if that is asked for, and prints the answer; job points into it.
func finishJob(c *cobra.Command, a *adminClient, output outputFlag, watch bool, job **cairn.Job, answer any, text func() string) error {
	if *job == nil {
		return output.print(c.OutOrStdout(), answer, text)
	}
	if watch {
		j, err := showJob(c.Context(), a, (*job).ID, true, c.ErrOrStderr())
		if err != nil {
			return err
		}
		**job = j
	}
	if err := output.print(c.OutOrStdout(), answer, text); err != nil {
		return err
	}
	return jobOutcome(**job, watch)
}

func nodeDrainText(d admin.NodeDrain) string {
	text := fmt.Sprintf("node %s (%s): %d voters, %d slots, about %s", d.Name, d.Node, d.Voters, d.Slots, bytesText(d.Bytes))
	if d.Job == nil {
		return text + "; nothing was begun"
	}
	return text + fmt.Sprintf("\njob %s: %s", d.Job.ID, progressText(d.Job.Progress))
}

func nodeUndrainCommand() *cobra.Command {
	return nodeChangeCommand("undrain", "Call a drain off, and use the node again", "", "DELETE", "/drain",
		func(n cairn.Node) string {
			return fmt.Sprintf("node %s (%s) takes new slots and voters again", n.Name, n.ID)
		})
}

// nodeChangeCommand sends one request about a node.
func nodeChangeCommand(use, short, long, method, path string, text func(cairn.Node) string) *cobra.Command {
	var output outputFlag
	var flags adminFlags
	c := &cobra.Command{Use: use + " NODE", Short: short, Long: long, Args: usageArgs(cobra.ExactArgs(1)), RunE: func(c *cobra.Command, args []string) error {
		a, n, err := flags.node(c, args[0])
		if err != nil {
			return err
		}
		var got cairn.Node
		if err := a.call(c.Context(), method, "/api/v1/nodes/"+n.ID.String()+path, &got); err != nil {
			return err
		}
		return output.print(c.OutOrStdout(), got, func() string { return text(got) })
	}}
	output.register(c)
	flags.register(c)
	return c
}

func nodeRemoveCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	var dry, yes bool
	c := &cobra.Command{
		Use:   "remove NODE",
		Short: "End the membership of a node that holds nothing, for good",
		Long: "End a node's membership for good: its certificate is refused from then on, and its ID never comes back. It is refused while\n" +
			"the node holds a slot or a metadata voter; `cairn node drain` moves these. Stop its process before or afterwards; to use the\n" +
			"machine again, join it with an empty data directory.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			a, n, err := flags.node(c, args[0])
			if err != nil {
				return err
			}
			path := "/api/v1/nodes/" + n.ID.String()
			var got cairn.Node
			// Asked first, so that nobody has to confirm what is refused.
			if err := a.call(c.Context(), "DELETE", path+dryQuery(true), &got); err != nil {
				return err
			}
			if !dry {
				if !yes && !confirmed(c, fmt.Sprintf("Remove node %s (%s) for good?", n.Name, n.ID)) {
					return errors.New("nothing was removed (give --yes to go on without being asked)")
				}
				if err := a.call(c.Context(), "DELETE", path, &got); err != nil {
					return err
				}
			}
			return output.print(c.OutOrStdout(), got, func() string { return removedText(n, dry) })
		},
	}
	output.register(c)
	flags.register(c)
	c.Flags().BoolVar(&dry, "dry-run", false, "only say whether it would be removed")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func removedText(n cairn.Node, dry bool) string {
	if dry {
		return fmt.Sprintf("node %s (%s) may be removed; nothing was done", n.Name, n.ID)
	}
	return fmt.Sprintf("node %s (%s) is removed", n.Name, n.ID)
}
