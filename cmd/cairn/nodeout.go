package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"cairn"
)

func nodeOutCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	c := &cobra.Command{
		Use:   "out NODE...",
		Short: "Give up nodes that are down: their shards are rebuilt elsewhere now",
		Long: "Give up nodes that are down, so that what they held is rebuilt on the others at once. A single node goes out by itself\n" +
			"after ten minutes. When a fifth of the data nodes is away, none does: a switch is more likely than so many deaths, and\n" +
			"this command decides. A node that comes back after all is taken back with what it holds.",
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			a, err := flags.client()
			if err != nil {
				return err
			}
			list := make([]cairn.Node, len(args))
			for i, name := range args { // all are known before one is given up
				if list[i], err = findNode(c.Context(), a, name); err != nil {
					return err
				}
			}
			for i, n := range list {
				if err := a.call(c.Context(), "POST", "/api/v1/nodes/"+n.ID.String()+"/out", &list[i]); err != nil {
					return err
				}
			}
			return output.print(c.OutOrStdout(), list, func() string {
				text := ""
				for _, n := range list {
					text += fmt.Sprintf("node %s is out: what it held is rebuilt elsewhere; `cairn status` shows how far that is\n", n.Name)
				}
				return text
			})
		},
	}
	output.register(c)
	flags.register(c)
	return c
}
