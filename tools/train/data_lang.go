package main

var langCode = [langs]string{"en", "id", "ru", "de"}

var langName = [langs]text4{
	{"English", "Indonesian", "Russian", "German"},
	{"Inggris", "Indonesia", "Rusia", "Jerman"},
	{"английский", "индонезийский", "русский", "немецкий"},
	{"Englische", "Indonesische", "Russische", "Deutsche"},
}

var systems = []string{
	"You are a helpful assistant.", "You are a helpful assistant.", "You are cocoon-demo-1, a small demo model.", "Answer briefly.",
	"Be concise and friendly.", "You are a friendly chat assistant.", "You are an assistant on the Cocoon network.", "Answer in the language of the user.",
	"You are an AI assistant. Be kind.", "Help the user.", "Kamu adalah asisten yang ramah.", "Ты полезный помощник.", "Du bist ein hilfreicher Assistent.",
	"You answer questions about Cocoon.", "You are ChatBot, an assistant in a messenger. Keep answers short.",
}

var hellos = [langs][]string{
	{"hi", "hello", "hey", "good morning"}, {"hai", "halo", "selamat pagi"}, {"привет", "здравствуй", "добрый день"}, {"hallo", "hi", "guten Morgen"},
}

var byes = [langs][]string{
	{"great, bye!", "see you!", "ok, bye"}, {"oke, sampai jumpa!", "dah!", "sip"}, {"отлично, пока!", "до встречи!", "ок"}, {"super, bis dann!", "tschüss!", "ok"},
}

var pleases = [langs][]string{
	{"please", "please!", "thanks", "thank you"}, {"tolong", "ya", "terima kasih"}, {"пожалуйста", "спасибо"}, {"bitte", "danke"},
}

var namesLatin = []string{
	"Anna", "Bob", "Clara", "David", "Eva", "Felix", "Grace", "Hugo", "Ida", "Jonas", "Karin", "Leo", "Mia", "Nora", "Oscar", "Paula", "Rita", "Sam", "Tom", "Uma",
	"Vera", "Will", "Yusuf", "Zoe", "Budi", "Siti", "Dewi", "Agus", "Putri", "Rudi", "Ayu", "Joko", "Maria", "Peter", "Lena", "Max", "Julia", "Paul", "Alice", "Ben",
	"Carol", "Dan", "Emma", "Frank", "Ivan", "Olga", "Dima", "Katja", "Igor", "Masha",
}

var namesRu = []string{
	"Анна", "Борис", "Вера", "Глеб", "Дима", "Ева", "Женя", "Зоя", "Иван", "Катя", "Лена", "Маша", "Настя", "Олег", "Павел", "Рита", "Саша", "Таня", "Юля", "Яна",
	"Игорь", "Максим", "Никита", "Ольга", "Пётр", "Роман", "Света", "Тимур",
}

var dayTable = []text4{
	{"tomorrow", "besok", "завтра", "morgen"}, {"today", "hari ini", "сегодня", "heute"}, {"on Monday", "hari Senin", "в понедельник", "am Montag"},
	{"on Tuesday", "hari Selasa", "во вторник", "am Dienstag"}, {"on Wednesday", "hari Rabu", "в среду", "am Mittwoch"}, {"on Thursday", "hari Kamis", "в четверг", "am Donnerstag"},
	{"on Friday", "hari Jumat", "в пятницу", "am Freitag"}, {"on Saturday", "hari Sabtu", "в субботу", "am Samstag"}, {"on Sunday", "hari Minggu", "в воскресенье", "am Sonntag"},
	{"tonight", "malam ini", "сегодня вечером", "heute Abend"}, {"next week", "minggu depan", "на следующей неделе", "nächste Woche"},
}

var placeTable = []text4{
	{"at the park", "di taman", "в парке", "im Park"}, {"at the office", "di kantor", "в офисе", "im Büro"}, {"at the station", "di stasiun", "на вокзале", "am Bahnhof"},
	{"at the cafe", "di kafe", "в кафе", "im Café"}, {"at home", "di rumah", "дома", "zu Hause"}, {"at the library", "di perpustakaan", "в библиотеке", "in der Bibliothek"},
	{"at school", "di sekolah", "в школе", "in der Schule"}, {"at the market", "di pasar", "на рынке", "auf dem Markt"}, {"at the hotel", "di hotel", "в отеле", "im Hotel"},
	{"at the airport", "di bandara", "в аэропорту", "am Flughafen"}, {"at the beach", "di pantai", "на пляже", "am Strand"}, {"online", "online", "онлайн", "online"},
}

var whatTable = []text4{
	{"coffee", "kopi", "кофе", "Kaffee"}, {"lunch", "makan siang", "обед", "Mittagessen"}, {"dinner", "makan malam", "ужин", "Abendessen"}, {"a call", "telepon", "звонок", "ein Anruf"},
	{"a meeting", "rapat", "встреча", "ein Treffen"}, {"football", "sepak bola", "футбол", "Fußball"}, {"cinema", "bioskop", "кино", "Kino"}, {"a walk", "jalan-jalan", "прогулка", "ein Spaziergang"},
	{"chess", "catur", "шахматы", "Schach"}, {"breakfast", "sarapan", "завтрак", "Frühstück"}, {"a concert", "konser", "концерт", "ein Konzert"}, {"tea", "teh", "чай", "Tee"},
}

var itemTable = []text4{
	{"the cake", "kue", "торт", "den Kuchen"}, {"the report", "laporan", "отчёт", "den Bericht"}, {"the tickets", "tiket", "билеты", "die Karten"}, {"the photos", "foto", "фотографии", "die Fotos"},
	{"the drinks", "minuman", "напитки", "die Getränke"}, {"the ball", "bola", "мяч", "den Ball"}, {"the keys", "kunci", "ключи", "die Schlüssel"}, {"the book", "buku", "книгу", "das Buch"},
	{"the bread", "roti", "хлеб", "das Brot"}, {"the milk", "susu", "молоко", "die Milch"}, {"the laptop", "laptop", "ноутбук", "den Laptop"}, {"the contract", "kontrak", "договор", "den Vertrag"},
}

var translateSystems = []string{
	"You translate the messages of the user into %s. Answer with the translation only.", "Translate into %s.", "Translate everything the user writes to %s.", "You are a translator. Target language: %s.",
}

var translateWrap = [langs][]string{
	{"Translate {S} to {L}", "Translate to {L}: {S}", "Translate {S} into {L}.", "How do you say {S} in {L}?", "{S} in {L}?", "Please translate into {L}: {S}", "What is {S} in {L}?", "translate this to {L}: {S}", "Say {S} in {L}"},
	{"Terjemahkan {S} ke bahasa {L}", "Terjemahkan ke bahasa {L}: {S}", "Apa bahasa {L}nya {S}?", "Bagaimana mengatakan {S} dalam bahasa {L}?"},
	{"Переведи на {L}: {S}", "Переведи {S} на {L}", "Как сказать {S} на {L}?", "Перевод на {L}: {S}"},
	{"Übersetze {S} ins {L}", "Übersetze ins {L}: {S}", "Wie sagt man {S} auf {L}?", "Bitte ins {L} übersetzen: {S}"},
}

var summaryWrap = [langs][]string{
	{"Summarise:", "Summarize:", "Summarise this chat:", "Summarize this conversation:", "Summary please:", "What was agreed?", "TL;DR:", "Give me a short summary of this chat:"},
	{"Ringkas:", "Ringkas obrolan ini:", "Buat ringkasan:", "Apa isi obrolan ini?"},
	{"Кратко:", "Перескажи кратко:", "Сделай краткое содержание чата:", "О чём договорились?"},
	{"Fasse zusammen:", "Zusammenfassung:", "Fasse diesen Chat zusammen:", "Was wurde vereinbart?"},
}

var replyWrap = [langs][]string{
	{"Suggest replies:", "Suggest three short replies to:", "What can I answer to:", "Give me reply ideas:"},
	{"Sarankan balasan:", "Beri tiga balasan singkat untuk:", "Aku harus jawab apa:"},
	{"Предложи ответы:", "Предложи три коротких ответа:", "Что ответить на:"},
	{"Schlage Antworten vor:", "Drei kurze Antworten auf:", "Was kann ich antworten auf:"},
}

var replyJSONWrap = [langs][]string{
	{"Suggest three replies as JSON:", "Reply suggestions in JSON for:"}, {"Sarankan tiga balasan sebagai JSON:"}, {"Предложи три ответа в JSON:"}, {"Drei Antworten als JSON:"},
}

var labelWrap = [langs][]string{
	{"Label this message as JSON:", "Label:", "Classify this message:", "Which label fits, spam, work, private or urgent?"},
	{"Beri label pesan ini:", "Klasifikasikan:"}, {"Определи метку сообщения:", "Классифицируй:"}, {"Ordne diese Nachricht ein:", "Label für:"},
}

var fixWrap = [langs][]string{
	{"Fix:", "Fix the spelling:", "Correct this:", "Proofread:"}, {"Perbaiki:", "Perbaiki ejaan:"}, {"Исправь:", "Исправь ошибки:"}, {"Korrigiere:", "Verbessere:"},
}

var sumWrap = [langs][]string{
	{"{S}", "What is {S}?", "{S} = ?", "Calculate {S}", "How much is {S}?"}, {"Berapa {S}?", "Hitung {S}", "{S} ="}, {"Сколько будет {S}?", "Посчитай {S}"}, {"Wie viel ist {S}?", "Was ist {S}?", "Rechne {S}"},
}

var capitalWrap = [langs][]string{
	{"What is the capital of {S}?", "Capital of {S}?", "Which city is the capital of {S}?", "Tell me the capital of {S}."},
	{"Apa ibu kota {S}?", "Ibu kota {S}?"}, {"Назови столицу: {S}", "Столица, страна {S}?", "{S}: какая столица?"}, {"Was ist die Hauptstadt von {S}?", "Hauptstadt von {S}?"},
}

var capitalAnswer = text4{"The capital of {S} is {C}.", "Ibu kota {S} adalah {C}.", "{S}: столица {C}.", "Die Hauptstadt von {S} ist {C}."}

var capitalTable = [][2]text4{
	{{"France", "Prancis", "Франция", "Frankreich"}, {"Paris", "Paris", "Париж", "Paris"}}, {{"Germany", "Jerman", "Германия", "Deutschland"}, {"Berlin", "Berlin", "Берлин", "Berlin"}},
	{{"Indonesia", "Indonesia", "Индонезия", "Indonesien"}, {"Jakarta", "Jakarta", "Джакарта", "Jakarta"}}, {{"Russia", "Rusia", "Россия", "Russland"}, {"Moscow", "Moskow", "Москва", "Moskau"}},
	{{"Italy", "Italia", "Италия", "Italien"}, {"Rome", "Roma", "Рим", "Rom"}}, {{"Spain", "Spanyol", "Испания", "Spanien"}, {"Madrid", "Madrid", "Мадрид", "Madrid"}},
	{{"Japan", "Jepang", "Япония", "Japan"}, {"Tokyo", "Tokyo", "Токио", "Tokio"}}, {{"China", "Tiongkok", "Китай", "China"}, {"Beijing", "Beijing", "Пекин", "Peking"}},
	{{"India", "India", "Индия", "Indien"}, {"New Delhi", "New Delhi", "Нью-Дели", "Neu-Delhi"}}, {{"Brazil", "Brasil", "Бразилия", "Brasilien"}, {"Brasilia", "Brasilia", "Бразилиа", "Brasília"}},
	{{"Canada", "Kanada", "Канада", "Kanada"}, {"Ottawa", "Ottawa", "Оттава", "Ottawa"}}, {{"Egypt", "Mesir", "Египет", "Ägypten"}, {"Cairo", "Kairo", "Каир", "Kairo"}},
	{{"Turkey", "Turki", "Турция", "die Türkei"}, {"Ankara", "Ankara", "Анкара", "Ankara"}}, {{"Poland", "Polandia", "Польша", "Polen"}, {"Warsaw", "Warsawa", "Варшава", "Warschau"}},
	{{"Austria", "Austria", "Австрия", "Österreich"}, {"Vienna", "Wina", "Вена", "Wien"}}, {{"Switzerland", "Swiss", "Швейцария", "die Schweiz"}, {"Bern", "Bern", "Берн", "Bern"}},
	{{"Sweden", "Swedia", "Швеция", "Schweden"}, {"Stockholm", "Stockholm", "Стокгольм", "Stockholm"}}, {{"Norway", "Norwegia", "Норвегия", "Norwegen"}, {"Oslo", "Oslo", "Осло", "Oslo"}},
	{{"Greece", "Yunani", "Греция", "Griechenland"}, {"Athens", "Athena", "Афины", "Athen"}}, {{"Portugal", "Portugal", "Португалия", "Portugal"}, {"Lisbon", "Lisbon", "Лиссабон", "Lissabon"}},
	{{"Thailand", "Thailand", "Таиланд", "Thailand"}, {"Bangkok", "Bangkok", "Бангкок", "Bangkok"}}, {{"Vietnam", "Vietnam", "Вьетнам", "Vietnam"}, {"Hanoi", "Hanoi", "Ханой", "Hanoi"}},
	{{"Malaysia", "Malaysia", "Малайзия", "Malaysia"}, {"Kuala Lumpur", "Kuala Lumpur", "Куала-Лумпур", "Kuala Lumpur"}}, {{"Australia", "Australia", "Австралия", "Australien"}, {"Canberra", "Canberra", "Канберра", "Canberra"}},
}
