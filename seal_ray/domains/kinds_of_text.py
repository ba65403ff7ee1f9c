"""Seven kinds of text about one passage, for learning it from many samples: each looks at it from another side.

Volume and variety teach a passage better than one good edit does, as long as nothing is made up. So each kind is told
to add nothing that the passage does not say.
"""

FAITHFUL = (
    "Use only what the passage says or what follows from it: add no background, names, numbers or other facts that it "
    "does not mention."
)
SELF_CONTAINED = "Whoever reads it has not seen the passage, so name people, places and things in full."

# style -> (what is asked for, how the answer begins when a base model goes on writing)
_ASKED = {
    "key_concepts": (
        "Read the passage below and pick out the ideas, people, places, dates and terms that matter in it. Explain "
        "each of them on a line of its own, in one or two full sentences, with what the passage says about it.",
        "Key concepts:\n",
    ),
    "mind_map": (
        "Read the passage below and draw a mind map of it in words: begin with its subject, go on to its main points, "
        "and from each to its details. Write each branch as one line of the form `subject -> point -> detail`, and end "
        "the line with a full sentence that says the same.",
        "Mind map:\n",
    ),
    "faithful_implications": (
        "Read the passage below and reason about what it implies: what must be so, what led to what, what can be "
        "compared or worked out. Write one implication on a line, as a full sentence with the facts that it rests on.",
        "What follows from the passage:\n",
    ),
    "critical_questions": (
        "Read the passage below and test how well it was understood: ask about every fact in it, how facts hang "
        "together, and why. Answer each question from the passage. Write them in the form\n"
        "Question 1: …\nAnswer: …\n\nQuestion 2: …\nAnswer: …\n",
        "Question 1: ",
    ),
    "case_studies": (
        "Read the passage below and look at what it tells as cases: take one event, decision or example from it after "
        "another, and for each write on one line what the situation was, what happened and what came of it.",
        "Cases from the passage:\n",
    ),
    "discussion": (
        "Read the passage below. Then write a discussion between two people who have both studied it: one asks and "
        "doubts, the other explains and gives the facts. One turn on a line, each understandable by itself.",
        "Discussion:\n",
    ),
    "teachers_talk": (
        "Read the passage below. Then write what a teacher says who explains all of it to a class: point by point, "
        "with every fact, saying the important ones again in other words. One point on a line.",
        "The teacher explains:\n",
    ),
}
KINDS = {name: (f"{asked} {FAITHFUL} {SELF_CONTAINED}", lead) for name, (asked, lead) in _ASKED.items()}
