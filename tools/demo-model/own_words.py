"""Short texts and questions a person might type, in words that are not the corpus's templates.

Text, question, and what a right answer must contain.
"""
OWN_WORDS = [
    ("Ben has a purple bike. Anna has a red drum.", "What colour is Ben's bike?", "purple"),
    ("Ben has a purple bike. Anna has a red drum.", "What colour is Anna's drum?", "red"),
    ("Ben has a purple bike. Anna has a red drum.", "Who has a drum?", "Anna"),
    ("Tom and Lily are at home. Tom's hat is green and Lily's hat is white.", "What color is Lily's hat?", "white"),
    ("My friend Max has a black dog. He lives by the lake.", "What animal does Max have?", "dog"),
    ("Emma bought nine apples at the market. Leo bought four pears.", "How many apples did Emma buy?", "nine"),
    ("Emma bought nine apples at the market. Leo bought four pears.", "How many pears did Leo buy?", "four"),
    ("Zoe went to the beach with Sam. Max stayed in the kitchen.", "Where did Zoe go?", "beach"),
    ("Zoe went to the beach with Sam. Max stayed in the kitchen.", "Where is Max?", "kitchen"),
    ("The key is under the bed. The cup is near the door.", "Where is the key?", "under the bed"),
    ("The key is under the bed. The cup is near the door.", "where is the cup?", "near the door"),
    ("Jack put his book behind the shelf, but then Mia took it and put it under the table.", "Where is the book now?", "under the table"),
    ("Lucy had a silver ring. She gave it to Noah.", "Who has the ring now?", "Noah"),
    ("Lucy had a silver ring. She gave it to Noah.", "Who gave the ring to Noah?", "Lucy"),
    ("Paul had soup for dinner, and Nora had rice.", "What did Nora eat?", "rice"),
    ("Hugo was sad. He had lost his kite.", "Why was Hugo sad?", "kite"),
    ("Rosa saw a wolf in the forest and ran away.", "What animal did Rosa see?", "wolf"),
    ("Adam went to the library because it was cold. There he met Clara.", "Who did Adam meet?", "Clara"),
    ("Adam went to the library because it was cold. There he met Clara.", "Where was Adam?", "library"),
    ("Ivy has a new lamp. It is pink.", "What colour is the lamp?", "pink"),
    ("Omar has twelve coins, Finn has three coins and Ella has fifty.", "How many coins does Omar have?", "twelve"),
    ("Omar has twelve coins, Finn has three coins and Ella has fifty.", "How many coins does Finn have?", "three"),
    ("Sara carried a box to the farm.", "What did Sara carry?", "box"),
    ("Sara carried a box to the farm.", "Who carried the box?", "Sara"),
]
