"""What is spoken: sentences with all that is hard to read aloud, and a longer text."""

from __future__ import annotations

# A text, and the words of it that a reader says.
HARD_SENTENCES = [
    (
        "On the 3rd of March 2024, 1,250 people paid $9.99 each to hear it.",
        "on the third of march twenty twenty four one thousand two hundred fifty people paid nine dollars ninety nine "
        "cents each to hear it",
    ),
    (
        "Dr. Smith met Mrs. Jones at 7:30 p.m. on Baker St. for dinner.",
        "doctor smith met missus jones at seven thirty pm on baker street for dinner",
    ),
    (
        '"Where did you leave the keys?" said Tom, looking under the table.',
        "where did you leave the keys said tom looking under the table",
    ),
    (
        "Please visit https://example.com/help for more information.",
        "please visit https slash example dot com slash help for more information",
    ),
    (
        "The temperature fell to -5 degrees, which is 23 degrees Fahrenheit.",
        "the temperature fell to minus five degrees which is twenty three degrees fahrenheit",
    ),
    ("She whispered, “I will never go back there again.”", "she whispered i will never go back there again"),
    (
        "In 1984, about 45% of the workers took the bus.",
        "in nineteen eighty four about forty five percent of the workers took the bus",
    ),
    ("Our profit rose by $2.5 million last year!", "our profit rose by two point five million dollars last year"),
    (
        "Prof. Adams weighs 82 kg and runs 10 km every morning.",
        "professor adams weighs eighty two kilograms and runs ten kilometers every morning",
    ),
    (
        "Is it really 3,500 miles from New York to London?",
        "is it really three thousand five hundred miles from new york to london",
    ),
    ("The NASA engineers checked the U.S. satellite twice.", "the nasa engineers checked the us satellite twice"),
    (
        "Send the report to anna@example.org before Friday, please.",
        "send the report to anna at example dot org before friday please",
    ),
    ("It’s twenty past nine, isn’t it?", "it's twenty past nine isn't it"),
    (
        "Don't forget: eggs, milk, bread, and two pounds of cheese.",
        "don't forget eggs milk bread and two pounds of cheese",
    ),
    (
        "The 21st century began on January 1, 2001.",
        "the twenty first century began on january first two thousand one",
    ),
    (
        "He scored 3.14 points per game (not bad for a beginner).",
        "he scored three point one four points per game not bad for a beginner",
    ),
    ("Chapter 12 starts on page 307.", "chapter twelve starts on page three hundred seven"),
    ("Wait... did you hear that noise?", "wait did you hear that noise"),
    (
        "The well-known author's third book sold 1,000,000 copies.",
        "the well known author's third book sold one million copies",
    ),
    (
        "Turn left on 5th Ave., then walk 2 blocks north.",
        "turn left on fifth avenue then walk two blocks north",
    ),
]

# Paragraphs, quotes, abbreviations, a long sentence with clauses and one without any mark.
STORY = """\
The lighthouse keeper woke before dawn, as he always did. Nobody had told him that the ship was coming!

When the harbor master finally received the message, which had traveled by telegraph from the northern station \
through three different offices, he put on his coat, called for his assistant, and walked down to the pier without \
saying another word to anyone.

"Where is the captain?" said the boy. Dr. Miller shook her head. It was 12:45 p.m., and nobody answered.

She had read every book in the small library of the village and then had borrowed every book that the traveling \
merchant brought from the city and then had begun to write her own stories about the sailors and their families.
"""
